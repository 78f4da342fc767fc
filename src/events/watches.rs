//! What a loop watches besides its ports: descriptors of the program, and listeners.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::event::ErrorEvent;
use super::timers::TimerId;
use super::{EventLoop, Inner};
use crate::connect::{Incoming, Listener, SHORTAGE_PAUSE};
use crate::error::{Refusal, WatchError};
use crate::poll::poller::FIRST_WATCH;
use crate::sys::epoll::Readiness;
use crate::sys::io_error;

/// A listener accepts at most 64 clients in a row, so that a crowd of clients does not starve the ports.
const MAX_ACCEPTS: u32 = 64;

/// Identifies a descriptor or a listener of one loop; see [`EventLoop::unwatch`]. It is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WatchId(u64);

type Callback = Box<dyn FnMut(&EventLoop, Readiness)>;

struct Watch {
    source: Rc<dyn AsFd>,
    interest: Readiness,
    /// `None` while the callback runs, so that it may remove itself.
    callback: Cell<Option<Callback>>,
}

/// The descriptors and listeners of a loop, by their keys in its poller.
#[derive(Default)]
pub(crate) struct Watches {
    list: RefCell<BTreeMap<u64, Rc<Watch>>>,
    next: Cell<u64>,
}

impl Watches {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(crate) fn take_all(&self) -> impl Sized + use<> {
        self.list.take()
    }
}

/// A listener in a loop.
struct Accepting {
    listener: Rc<Listener>,
    id: Cell<Option<WatchId>>,
    /// Ends a pause, or the time of a client that has sent nothing.
    timer: Cell<Option<TimerId>>,
    on_connect: Cell<Option<OnConnect>>,
    event_loop: Weak<Inner>,
}

type OnConnect = Box<dyn FnMut(&EventLoop, Incoming)>;

impl EventLoop {
    /// Calls `callback` whenever a descriptor of the program is ready, such as a socket, a pipe or a device: in each
    /// round while it is, as the level-triggered epoll(7) does. `callback` also gets the source, and what it is ready
    /// for. A hang-up or an error makes it ready for all that `interest` contains; the callback should then
    /// [remove](Self::unwatch) it, since it stays so.
    ///
    /// The loop owns `source` until then, and runs as long as it watches something.
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use messageport::{EventLoop, Readiness};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let events = EventLoop::new()?;
    /// let id = std::rc::Rc::new(std::cell::Cell::new(None));
    /// let own = id.clone();
    /// id.set(Some(events.watch(reader, Readiness::READABLE, move |events, mut reader, _ready| {
    ///     let mut bytes = [0; 5];
    ///     reader.read_exact(&mut bytes).unwrap();
    ///     assert_eq!(&bytes, b"hello");
    ///     events.unwatch(own.get().unwrap());
    /// })?));
    /// writer.write_all(b"hello")?;
    /// events.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The system cannot watch one more descriptor; the descriptor is a regular file or another one that epoll_ctl(2)
    /// does not take, or is in this loop already; this is a forked child. The source is in the error.
    pub fn watch<T: AsFd + 'static>(
        &self,
        source: T,
        interest: Readiness,
        mut callback: impl FnMut(&EventLoop, &T, Readiness) + 'static,
    ) -> Result<WatchId, Refusal<WatchError, T>> {
        let source = Rc::new(source);
        let (own, lent) = (Rc::clone(&source), Rc::clone(&source));
        let watched = self.watch_dyn(own, interest, Box::new(move |events, ready| callback(events, &lent, ready)));
        watched.map_err(|error| Refusal::new(error, sole(source)))
    }

    /// On failure all that was passed is dropped.
    fn watch_dyn(&self, source: Rc<dyn AsFd>, interest: Readiness, callback: Callback) -> Result<WatchId, WatchError> {
        let inner = &self.inner;
        if !inner.poller.borrow().is_here() {
            return Err(WatchError::Forked);
        }
        let watches = &inner.watches;
        let key = FIRST_WATCH + watches.next.replace(watches.next.get() + 1);
        inner.set.add_watch(source.as_fd(), interest, key).map_err(|errno| WatchError::System(io_error(errno)))?;
        watches.list.borrow_mut().insert(key, Rc::new(Watch { source, interest, callback: Cell::new(Some(callback)) }));
        Ok(WatchId(key))
    }

    /// Stops watching a descriptor or a listener, and drops it, with its callback. A callback may remove itself. False
    /// if it is not in this loop any more.
    pub fn unwatch(&self, id: WatchId) -> bool {
        let inner = &self.inner;
        let removed = inner.watches.list.borrow_mut().remove(&id.0);
        if let Some(watch) = &removed
            && inner.poller.borrow().is_here()
        {
            inner.set.delete(watch.source.as_fd());
        }
        removed.is_some() // dropped while nothing is borrowed
    }

    /// Accepts the clients of a listener: calls `on_connect` with each, like a shared worker's
    /// [`onconnect`](https://html.spec.whatwg.org/multipage/workers.html#handler-sharedworkerglobalscope-onconnect).
    ///
    /// A shortage of descriptors or memory is waited out, as by [`Listener::accept`]. The listener is dropped, and its
    /// name free, when it is [removed](Self::unwatch) or when the loop is dropped. A loop with a listener runs until it
    /// is stopped.
    ///
    /// ```no_run
    /// use messageport::{EventLoop, Listener};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let events = EventLoop::new()?;
    /// events.add_listener(Listener::bind("my-service")?, |events, client| {
    ///     let Ok(port) = events.add(client.port) else { return };
    ///     port.set_onmessage(|port, event| port.post_message(&event.data, []).unwrap());
    /// })?;
    /// events.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The system cannot watch one more descriptor, or this is a forked child; the listener is in the error.
    pub fn add_listener(
        &self,
        listener: Listener,
        on_connect: impl FnMut(&EventLoop, Incoming) + 'static,
    ) -> Result<WatchId, Refusal<WatchError, Listener>> {
        let listener = Rc::new(listener);
        let accepting = Rc::new(Accepting {
            listener: Rc::clone(&listener),
            id: Cell::new(None),
            timer: Cell::new(None),
            on_connect: Cell::new(Some(Box::new(on_connect))),
            event_loop: Rc::downgrade(&self.inner),
        });
        let own = Rc::clone(&accepting);
        let source = Rc::clone(&listener);
        match self.watch_dyn(source, Readiness::READABLE, Box::new(move |events, _| own.accept(events))) {
            Ok(id) => {
                accepting.id.set(Some(id));
                Ok(id)
            }
            Err(error) => {
                drop(accepting);
                Err(Refusal::new(error, sole(listener)))
            }
        }
    }

    /// Calls the callbacks of the descriptors that are ready. Returns their number.
    pub(crate) fn call_watches(&self, ready: Vec<(u64, Readiness)>) -> usize {
        let mut count = 0;
        for (key, ready) in ready {
            let watch = self.inner.watches.list.borrow().get(&key).cloned();
            let Some((watch, mut callback)) = watch.and_then(|watch| Some((watch.clone(), watch.callback.take()?)))
            else {
                continue;
            };
            self.call(|events| callback(events, ready.masked(watch.interest)));
            watch.callback.set(Some(callback));
            count += 1;
        }
        count
    }
}

impl Accepting {
    fn accept(self: &Rc<Self>, events: &EventLoop) {
        self.timer.take().map(|timer| events.clear_timeout(timer));
        for _ in 0..MAX_ACCEPTS {
            match self.listener.try_accept() {
                Ok(Some(client)) => self.connect(events, client),
                Ok(None) => break,
                Err(error) if error.is_shortage() => {
                    // The listener stays readable meanwhile.
                    return self.pause(events, SHORTAGE_PAUSE, Readiness::NONE);
                }
                Err(error) => {
                    self.id.get().map(|id| events.unwatch(id)); // every later attempt would fail too
                    return events.inner.report(ErrorEvent::NotAccepted(error));
                }
            }
            if !self.is_in(events) {
                return;
            }
        }
        if let Some(due) = self.listener.next_deadline() {
            self.pause(events, due.saturating_duration_since(Instant::now()), Readiness::READABLE);
        }
    }

    fn connect(&self, events: &EventLoop, client: Incoming) {
        // Taken out while it runs: it may remove the listener.
        let Some(mut on_connect) = self.on_connect.take() else { return };
        events.call(|events| on_connect(events, client));
        self.on_connect.set(Some(on_connect));
    }

    /// Accepts again after `time`; before that, when the listener is ready for `interest`.
    fn pause(self: &Rc<Self>, events: &EventLoop, time: Duration, interest: Readiness) {
        if !self.is_in(events) {
            return;
        }
        self.set_interest(events, interest);
        let own = Rc::downgrade(self);
        let timer = events.set_timeout(time, move |events| {
            if let Some(own) = own.upgrade().filter(|own| own.is_in(events)) {
                own.timer.take();
                own.set_interest(events, Readiness::READABLE);
                own.accept(events);
            }
        });
        self.timer.set(Some(timer));
    }

    fn set_interest(&self, events: &EventLoop, interest: Readiness) {
        if let Some(WatchId(key)) = self.id.get() {
            events.inner.set.change_watch(self.listener.as_fd(), interest, key);
        }
    }

    fn is_in(&self, events: &EventLoop) -> bool {
        self.id.get().is_some_and(|WatchId(key)| events.inner.watches.list.borrow().contains_key(&key))
    }
}

/// A timer keeps the loop running, and has nothing to do without its listener.
impl Drop for Accepting {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take()
            && let Some(inner) = self.event_loop.upgrade()
        {
            EventLoop::from_inner(inner).clear_timeout(timer);
        }
    }
}

/// The value of the last reference.
fn sole<T>(reference: Rc<T>) -> T {
    Rc::into_inner(reference).expect("the callback, which had the others, has been dropped")
}
