//! Event loops: their ports, timers and tasks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use messageport::{ErrorEvent, EventLoop, LoopHandle as RustRemote, TimerId};

use crate::code::{self, Code};
use crate::failure::{Failure, watching};
use crate::guard::{free, guard};
use crate::handle::{Handle, Object, Out};
use crate::input::{Deferral, Destroy, Timeout, User, duration};
use crate::port::{Claims, End, Port, PortHandle};

/// `msgport_loop`.
pub type LoopHandle = Handle<Loop>;

pub struct Loop {
    events: EventLoop,
    own: OwnHandle,
    /// Every call on the handle and on the ports of the loop has a claim.
    claims: Claims,
    timers: Rc<RefCell<HashMap<u64, TimerId>>>,
    next_timer: Cell<u64>,
}

impl Object for Loop {
    const NAME: &'static str = "loop";
}

/// `msgport_remote`.
pub type RemoteHandle = Handle<Remote>;

pub struct Remote {
    remote: RustRemote,
    own: OwnHandle,
}

impl Object for Remote {
    const NAME: &'static str = "remote";
}

impl Remote {
    /// The handle, in the process of the loop.
    fn own_process(&self) -> Result<&RustRemote, Failure> {
        if self.remote.is_inherited() { Err(Failure::plain(code::FORKED)) } else { Ok(&self.remote) }
    }
}

/// The address of a loop's handle, for its callbacks. NULL once the handle is freed.
#[derive(Clone)]
struct OwnHandle(Arc<AtomicPtr<LoopHandle>>);

impl OwnHandle {
    fn new() -> Self {
        Self(Arc::new(AtomicPtr::new(null_mut())))
    }

    fn set(&self, handle: *mut LoopHandle) {
        // Relaxed: `with` reads it on the thread of the loop, which is also the thread that stores it; if the loop
        // moves to another thread, the caller of C orders that.
        self.0.store(handle, Ordering::Relaxed);
    }

    /// Calls `call` with the handle unless it has been freed.
    fn with(&self, call: impl FnOnce(*mut LoopHandle)) {
        // Relaxed: see `set`.
        let handle = self.0.load(Ordering::Relaxed);
        if !handle.is_null() {
            call(handle);
        }
    }
}

/// `msgport_task`.
pub type Task = Option<unsafe extern "C" fn(event_loop: *mut LoopHandle, user: *mut c_void)>;

/// `msgport_error_handler`.
pub type ErrorHandler = Option<unsafe extern "C" fn(event_loop: *mut LoopHandle, code: Code, user: *mut c_void)>;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_new(event_loop: *mut *mut LoopHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(event_loop, "loop") }?;
        let events = EventLoop::new().map_err(|error| watching(&error))?;
        let own = OwnHandle::new();
        let handle = Handle::give(Loop {
            events,
            own: own.clone(),
            claims: Claims::new()?,
            timers: Rc::default(),
            next_timer: Cell::new(1),
        });
        own.set(handle);
        out.set(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_free(event_loop: *mut LoopHandle) {
    guard(|| {
        let _deferral = Deferral::begin();
        // While another thread uses the loop, it stays.
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let _claim = unsafe { Handle::get(event_loop) }?.claims.enter()?;
        // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
        if let Some(event_loop) = unsafe { Handle::take(event_loop) } {
            event_loop.own.set(null_mut());
            // Inside a handler: `msgport_loop_run` holds a clone of the loop, which must return.
            event_loop.events.stop();
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_add(event_loop: *mut LoopHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        port.replace_end(|end| match end {
            End::Whole(port) => match events.add(port) {
                Ok(port) => (End::InLoop { port, half: false, claims: claims.clone() }, Ok(())),
                Err(error) => {
                    let (kind, port) = error.into_parts();
                    (End::Whole(port), Err(watching(&kind.into())))
                }
            },
            End::Receiver(half) => match events.add_half(half) {
                Ok(port) => (End::InLoop { port, half: true, claims: claims.clone() }, Ok(())),
                Err(error) => {
                    let (kind, half) = error.into_parts();
                    (End::Receiver(half), Err(watching(&kind.into())))
                }
            },
            other => other.refuse(),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_remove(event_loop: *mut LoopHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        let _deferral = Deferral::begin();
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        if !matches!(unsafe { Handle::<Port>::get(port) }?.end(), End::InLoop { .. }) {
            return Err(Failure::plain(code::NOT_IN_LOOP));
        }
        // SAFETY: as before.
        let port = unsafe { Port::exclusive(port) }?;
        port.replace_end(|end| match end {
            End::InLoop { port, half: false, claims } => match events.remove(&port) {
                Some(whole) => (End::Whole(whole), Ok(())),
                None => (End::InLoop { port, half: false, claims }, Err(Failure::plain(code::NOT_IN_LOOP))),
            },
            End::InLoop { port, half: true, claims } => match events.remove_half(&port) {
                Some(half) => (End::Receiver(half), Ok(())),
                None => (End::InLoop { port, half: true, claims }, Err(Failure::plain(code::NOT_IN_LOOP))),
            },
            other => (other, Err(Failure::plain(code::NOT_IN_LOOP))),
        })?;
        port.forget_handlers();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_run(event_loop: *mut LoopHandle, timeout: i64) -> Code {
    guard(|| {
        // A clone outlives the handle, which a handler may free.
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        let events = events.clone();
        match Timeout::of(timeout).limit() {
            None => events.run(),
            Some(time) => events.run_timeout(time),
        }
        .map_err(|error| watching(&error))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_poll(event_loop: *mut LoopHandle, timeout: i64, count: *mut usize) -> Code {
    guard(|| {
        // A clone outlives the handle, which a handler may free.
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        let events = events.clone();
        let done = match Timeout::of(timeout) {
            // Also leaves the descriptor readable if anything is left, for a program with a loop of its own.
            Timeout::Poll => events.dispatch(),
            Timeout::For(time) => events.run_once_timeout(time),
            Timeout::Forever => events.run_once(),
        };
        let done = done.map_err(|error| watching(&error))?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(count) } {
            out.set(done);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_descriptor(event_loop: *mut LoopHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(descriptor, "descriptor") }?.set(events.as_fd().as_raw_fd());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_stop(event_loop: *mut LoopHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        events.stop();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_batch(event_loop: *mut LoopHandle, messages: usize) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        events.set_batch(messages);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_spin(event_loop: *mut LoopHandle, nanoseconds: i64) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let Loop { events, claims, .. } = unsafe { Handle::get(event_loop) }?;
        let _claim = claims.enter()?;
        events.set_spin(duration(nanoseconds));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_on_error(
    event_loop: *mut LoopHandle,
    handler: ErrorHandler,
    user: *mut c_void,
    destroy: Destroy,
) -> Code {
    guard(|| {
        let _deferral = Deferral::begin(); // the handler replaces another one
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        let (own, user) = (event_loop.own.clone(), User::new(user, destroy));
        event_loop.events.set_onerror(move |event| {
            let failure = match event {
                ErrorEvent::ResourceExhausted(error) => Failure::exhausted(error),
                event => Failure::internal(event),
            };
            // SAFETY: the caller of C passed this handler for this data, and the loop has not been freed.
            own.with(|event_loop| unsafe { handler(event_loop, failure.code(), user.data()) });
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_timeout(
    event_loop: *mut LoopHandle,
    delay: i64,
    callback: Task,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let callback = callback.ok_or_else(|| Failure::null("callback"))?;
        let number = event_loop.next_timer.replace(event_loop.next_timer.get() + 1);
        let (own, timers) = (event_loop.own.clone(), Rc::clone(&event_loop.timers));
        let user = User::new(user, destroy);
        let delay = Duration::from_nanos(u64::try_from(delay).unwrap_or(0));
        let timer = event_loop.events.set_timeout(delay, move |_| {
            timers.borrow_mut().remove(&number);
            // SAFETY: the caller of C passed this function for this data, and the loop has not been freed.
            own.with(|event_loop| unsafe { callback(event_loop, user.data()) });
        });
        event_loop.timers.borrow_mut().insert(number, timer);
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(id) } {
            out.set(number);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_clear_timeout(event_loop: *mut LoopHandle, id: u64) -> Code {
    guard(|| {
        let _deferral = Deferral::begin();
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        let timer = event_loop.timers.borrow_mut().remove(&id);
        match timer {
            Some(timer) if event_loop.events.clear_timeout(timer) => Ok(()),
            _ => Err(Failure::plain(code::NOT_FOUND)),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_remote(event_loop: *mut LoopHandle, remote: *mut *mut RemoteHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let _claim = event_loop.claims.enter()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(remote, "remote") }?;
        out.give(Remote { remote: event_loop.events.handle(), own: event_loop.own.clone() });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_remote_free(remote: *mut RemoteHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(remote) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_remote_stop(remote: *const RemoteHandle) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let remote = unsafe { Handle::get(remote) }?;
        remote.own_process()?.stop();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_remote_post_task(
    remote: *const RemoteHandle,
    task: Task,
    user: *mut c_void,
    destroy: Destroy,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let remote = unsafe { Handle::get(remote) }?;
        let task = task.ok_or_else(|| Failure::null("task"))?;
        let handle = remote.own_process()?;
        let (own, user) = (remote.own.clone(), User::new(user, destroy));
        let owner = user.owner();
        let task = move |_: &EventLoop| {
            let user = user; // all of it, which is `Send`, and not its fields
            // SAFETY: the caller of C passed this function for this data, and the loop has not been freed: only this
            // thread frees it.
            own.with(|event_loop| unsafe { task(event_loop, user.data()) });
        };
        handle.post_task(task).map_err(|error| {
            owner.give_back();
            drop(error);
            Failure::plain(code::LOOP_GONE)
        })
    })
}
