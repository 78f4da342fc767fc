//! Event loops: their ports, timers and tasks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use messageport::{AddError, ErrorEvent, EventLoop, LoopGone, LoopHandle as RustRemote, TimerId};

use crate::callback::{Destroy, User};
use crate::code::{self, Code};
use crate::end::End;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::Timeout;
use crate::port::PortHandle;

/// `msgport_loop`.
pub type LoopHandle = Handle<Loop>;

pub struct Loop {
    events: EventLoop,
    me: Me,
    timers: Rc<RefCell<HashMap<u64, TimerId>>>,
    next_timer: Cell<u64>,
}

/// Where the handle of a loop is, for callbacks; NULL once it has been freed.
type Me = Arc<AtomicPtr<LoopHandle>>;

impl Kind for Loop {
    const NAME: &'static str = "loop";
    const TAG: u64 = u64::from_le_bytes(*b"loop\0\0\0\0");
}

/// `msgport_remote`.
pub type RemoteHandle = Handle<Remote>;

pub struct Remote {
    remote: RustRemote,
    me: Me,
}

impl Kind for Remote {
    const NAME: &'static str = "remote";
    const TAG: u64 = u64::from_le_bytes(*b"remote\0\0");
}

/// `msgport_task`.
pub type Task = Option<unsafe extern "C" fn(event_loop: *mut LoopHandle, user: *mut c_void)>;

/// `msgport_error_handler`.
pub type ErrorHandler = Option<unsafe extern "C" fn(event_loop: *mut LoopHandle, code: Code, user: *mut c_void)>;

/// What goes wrong with descriptors to watch.
pub(crate) fn watching(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ResourceBusy if error.raw_os_error().is_none() => Failure::plain(code::RUNNING),
        io::ErrorKind::Unsupported if error.raw_os_error().is_none() => Failure::plain(code::FORKED),
        _ => Failure::exhausted(error),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_new(event_loop: *mut *mut LoopHandle) -> Code {
    guard(|| {
        let out = Out::new(event_loop, "loop")?;
        let events = EventLoop::new().map_err(|error| watching(&error))?;
        let me = Me::new(AtomicPtr::new(null_mut()));
        let event_loop = Loop { events, me: Arc::clone(&me), timers: Rc::default(), next_timer: Cell::new(1) };
        let handle = Handle::give(event_loop);
        // Relaxed: whoever reads it elsewhere got the loop's address by other means first.
        me.store(handle, Ordering::Relaxed);
        // SAFETY: writable, says the header.
        unsafe { out.set(handle) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_free(event_loop: *mut LoopHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        if let Some(event_loop) = unsafe { Handle::take(event_loop) } {
            event_loop.me.store(null_mut(), Ordering::Relaxed);
            // If this is inside a handler, `run` has a clone of it.
            event_loop.events.stop();
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_add(event_loop: *mut LoopHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let events = &unsafe { Handle::get(event_loop) }?.events;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        port.replace_end(|end| match end {
            End::Whole(port) => match events.add(port) {
                Ok(port) => (End::InLoop { port, half: false }, Ok(())),
                Err(AddError { error, port }) => (End::Whole(port), Err(watching(&error))),
            },
            End::Receiver(half) => match events.add_half(half) {
                Ok(port) => (End::InLoop { port, half: true }, Ok(())),
                Err(AddError { error, port }) => (End::Receiver(port), Err(watching(&error))),
            },
            other => other.refuse(),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_remove(event_loop: *mut LoopHandle, port: *mut PortHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let events = &unsafe { Handle::get(event_loop) }?.events;
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        port.forget_listeners();
        port.replace_end(|end| match end {
            End::InLoop { port, half: false } => match events.remove(&port) {
                Some(whole) => (End::Whole(whole), Ok(())),
                None => (End::InLoop { port, half: false }, Err(Failure::plain(code::NOT_IN_LOOP))),
            },
            End::InLoop { port, half: true } => match events.remove_half(&port) {
                Some(half) => (End::Receiver(half), Ok(())),
                None => (End::InLoop { port, half: true }, Err(Failure::plain(code::NOT_IN_LOOP))),
            },
            other => (other, Err(Failure::plain(code::NOT_IN_LOOP))),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_run(event_loop: *mut LoopHandle, timeout: i64) -> Code {
    guard(|| {
        // A clone, which outlives the handle if a handler frees that.
        // SAFETY: a handle or NULL, says the header.
        let events = unsafe { Handle::get(event_loop) }?.events.clone();
        match Timeout::of_nanoseconds(timeout) {
            Timeout::Forever => events.run(),
            Timeout::For(time) => events.run_for(time),
            Timeout::None => events.run_for(Duration::ZERO),
        }
        .map_err(|error| watching(&error))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_poll(event_loop: *mut LoopHandle, timeout: i64, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let events = unsafe { Handle::get(event_loop) }?.events.clone();
        let timeout = Timeout::of_nanoseconds(timeout).until_forever();
        let done = events.poll_once(timeout).map_err(|error| watching(&error))?;
        if let Ok(out) = Out::new(count, "count") {
            // SAFETY: writable, says the header.
            unsafe { out.set(done) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_dispatch(event_loop: *mut LoopHandle, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let events = unsafe { Handle::get(event_loop) }?.events.clone();
        let done = events.dispatch().map_err(|error| watching(&error))?;
        if let Ok(out) = Out::new(count, "count") {
            // SAFETY: writable, says the header.
            unsafe { out.set(done) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_descriptor(event_loop: *mut LoopHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let number = unsafe { Handle::get(event_loop) }?.events.as_fd().as_raw_fd();
        let out = Out::new(descriptor, "descriptor")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(number) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_stop(event_loop: *mut LoopHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(event_loop) }?.events.stop();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_batch(event_loop: *mut LoopHandle, messages: usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(event_loop) }?.events.set_batch(messages);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_spin(event_loop: *mut LoopHandle, nanoseconds: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(event_loop) }?.events.set_spin(Duration::from_nanos(nanoseconds));
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
        // SAFETY: a handle or NULL, says the header.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let handler = handler.ok_or_else(|| Failure::null("handler"))?;
        let (me, user) = (Arc::clone(&event_loop.me), User::new(user, destroy));
        event_loop.events.set_onerror(move |event| {
            let failure = match event {
                ErrorEvent::ResourceExhausted(error) => Failure::exhausted(error),
                event => Failure::internal(event),
            };
            let (code, me) = (failure.code(), me.load(Ordering::Relaxed));
            if !me.is_null() {
                // SAFETY: the function and its data are what the caller gave us, and the loop has not been freed.
                unsafe { handler(me, code, user.data()) };
            }
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_set_timeout(
    event_loop: *mut LoopHandle,
    delay: u64,
    callback: Task,
    user: *mut c_void,
    destroy: Destroy,
    id: *mut u64,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let callback = callback.ok_or_else(|| Failure::null("callback"))?;
        let number = event_loop.next_timer.replace(event_loop.next_timer.get() + 1);
        let (me, timers) = (Arc::clone(&event_loop.me), Rc::clone(&event_loop.timers));
        let user = User::new(user, destroy);
        let timer = event_loop.events.set_timeout(Duration::from_nanos(delay), move |_| {
            timers.borrow_mut().remove(&number);
            let me = me.load(Ordering::Relaxed);
            if !me.is_null() {
                // SAFETY: the function and its data are what the caller gave us, and the loop has not been freed.
                unsafe { callback(me, user.data()) };
            }
        });
        event_loop.timers.borrow_mut().insert(number, timer);
        if let Ok(out) = Out::new(id, "id") {
            // SAFETY: writable, says the header.
            unsafe { out.set(number) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_loop_clear_timeout(event_loop: *mut LoopHandle, id: u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let event_loop = unsafe { Handle::get(event_loop) }?;
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
        // SAFETY: a handle or NULL, says the header.
        let event_loop = unsafe { Handle::get(event_loop) }?;
        let out = Out::new(remote, "remote")?;
        let remote = Remote { remote: event_loop.events.handle(), me: Arc::clone(&event_loop.me) };
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(remote)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_remote_free(remote: *mut RemoteHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(remote) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_remote_stop(remote: *const RemoteHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        unsafe { Handle::get(remote) }?.remote.stop();
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
        // SAFETY: a handle or NULL, says the header.
        let remote = unsafe { Handle::get(remote) }?;
        let task = task.ok_or_else(|| Failure::null("task"))?;
        let (me, user) = (Arc::clone(&remote.me), User::new(user, destroy));
        let owner = user.owner();
        let task = move |_: &EventLoop| {
            let user = user;
            let me = me.load(Ordering::Relaxed);
            if !me.is_null() {
                // SAFETY: the function and its data are what the caller gave us, and the loop has not been freed: it is
                // freed by this very thread.
                unsafe { task(me, user.data()) };
            }
        };
        remote.remote.post_task(task).map_err(|LoopGone(task)| {
            owner.give_back();
            drop(task);
            Failure::plain(code::LOOP_GONE)
        })
    })
}
