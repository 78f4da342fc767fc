//! `EventLoop`: dispatches the events of many ports, timers and tasks on one thread.
#![forbid(unsafe_code)]

pub(crate) mod handle;
pub(crate) mod handlers;
pub(crate) mod event;
pub(crate) mod timers;
pub(crate) mod tasks;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent};
use self::handle::{Found, Member, PortHandle, Source};
use self::tasks::{LoopHandle, Shared};
use self::timers::{TimerId, Timers};
use crate::error::{RecvError, TryRecvError};
use crate::poll::poller::{NO_PORT, Poller};
use crate::poll::set::AddError;
use crate::port::{MessagePort, RecvHalf};
use crate::sys::epoll::{Alarm, Epoll};
use crate::sys::process::io_error;

const WAKE_UP: u64 = NO_PORT;
const ALARM: u64 = NO_PORT + 1;

/// Most messages of one port before the others have their turn.
const BATCH: usize = 1000;
/// Time between two attempts to receive a message for which there is no memory or no descriptor.
const SHORTAGE: Duration = Duration::from_millis(10);

/// Dispatches what happens to its ports, timers and tasks, on one thread: the standard's
/// [event loop](https://html.spec.whatwg.org/multipage/webappapis.html#event-loops).
///
/// ```
/// use messageport::{EventLoop, MessageChannel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let events = EventLoop::new()?;
/// let server = events.add(port2)?;
/// server.set_onmessage(|port, event| {
///     event.data.reverse();
///     port.post_message(&event.data, []).unwrap();
/// });
/// port1.post_message(b"live", [])?;
/// let client = events.add(port1)?;
/// client.set_onmessage(|port, event| {
///     assert_eq!(event.data, b"evil");
///     port.close();
/// });
/// events.run()?; // until nothing is left that could happen
/// # Ok(()) }
/// ```
///
/// It may have thousands of ports: one in which nothing happens costs nothing while others are busy. In turn, each port
/// in which something happens has at most a [batch](Self::set_batch) of its messages dispatched; timers and tasks come
/// between the rounds. Within another program's loop, it is a [descriptor](#impl-AsFd-for-EventLoop) to poll and
/// [`dispatch`](Self::dispatch).
///
/// A panic of a handler is caught and [reported](Self::set_onerror), and the loop goes on. (Where panics abort the
/// process, they do here too.)
///
/// Clones stand for the same loop. When the last one is dropped, all ports in it are closed. A handler that owns one keeps
/// the loop alive: it should ask its port for [the loop](PortHandle::event_loop) instead.
#[derive(Clone)]
pub struct EventLoop {
    inner: Rc<Inner>,
}

type Timer = Box<dyn FnOnce(&EventLoop)>;
type OnError = Box<dyn FnMut(&ErrorEvent)>;

pub(crate) struct Inner {
    poller: RefCell<Poller<Rc<Member>>>,
    /// The poller's.
    set: Arc<Epoll>,
    timers: RefCell<Timers<Timer>>,
    shared: Arc<Shared>,
    alarm: Alarm,
    alarm_is_set: Cell<bool>,
    /// The descriptor has been asked for: whatever is to be done must make it readable.
    embedded: Cell<bool>,
    running: Cell<bool>,
    batch: Cell<usize>,
    /// Ports with handlers.
    holding: Cell<usize>,
    onerror: Cell<Option<OnError>>,
    /// The memory of the last message, for the next.
    spare: Cell<MessageEvent>,
}

impl EventLoop {
    /// Makes a loop without ports. It takes three descriptors.
    ///
    /// # Errors
    /// The system has no memory or no descriptors.
    pub fn new() -> io::Result<Self> {
        let poller = Poller::new().map_err(io_error)?;
        let (shared, alarm) = (Shared::new().map_err(io_error)?, Alarm::new().map_err(io_error)?);
        poller.add_wake_up(shared.as_fd(), WAKE_UP).map_err(io_error)?;
        poller.add_wake_up(alarm.as_fd(), ALARM).map_err(io_error)?;
        Ok(Self::from_inner(Rc::new(Inner {
            set: Arc::clone(poller.set()),
            poller: RefCell::new(poller),
            timers: RefCell::new(Timers::new()),
            shared: Arc::new(shared),
            alarm,
            alarm_is_set: Cell::new(false),
            embedded: Cell::new(false),
            running: Cell::new(false),
            batch: Cell::new(BATCH),
            holding: Cell::new(0),
            onerror: Cell::new(None),
            spare: Cell::default(),
        })))
    }

    pub(crate) fn from_inner(inner: Rc<Inner>) -> Self {
        Self { inner }
    }

    // Ports.

    /// Adds a port, disabled and without handlers.
    ///
    /// # Errors
    /// The system cannot watch one more descriptor, or this is a forked child; the port is in the error.
    pub fn add(&self, port: MessagePort) -> Result<PortHandle, AddError<MessagePort>> {
        self.add_source(Source::Port(port)).map_err(|(error, source)| match source {
            Source::Port(port) => AddError { error, port },
            Source::Half(_) => unreachable!("a port was passed"),
        })
    }

    /// Adds the receiving half of a port, whose sending half may be used by another thread meanwhile. The handle cannot
    /// post ([`Detached`](crate::PostErrorKind::Detached)); everything else is the same.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn add_half(&self, half: RecvHalf) -> Result<PortHandle, AddError<RecvHalf>> {
        self.add_source(Source::Half(half)).map_err(|(error, source)| match source {
            Source::Half(port) => AddError { error, port },
            Source::Port(_) => unreachable!("a half was passed"),
        })
    }

    fn add_source(&self, source: Source) -> Result<PortHandle, (io::Error, Source)> {
        if !self.inner.poller.borrow().is_here() {
            return Err((forked(), source));
        }
        let member = Member::new(source, Rc::downgrade(&self.inner));
        let key = self.inner.poller.borrow_mut().add(Rc::clone(&member));
        match key {
            Ok(key) => {
                member.key.set(key);
                self.inner.nudge();
                Ok(PortHandle::new(member))
            }
            Err((errno, member)) => Err((io_error(errno), member.take(|_| true).expect("it was put there just now"))),
        }
    }

    /// Takes a port out of the loop, with everything that has not been dispatched. Its handlers are dropped.
    ///
    /// `None`: it is not in this loop any more, is borrowed by a [`PortRef`](crate::PortRef), or is only
    /// [half a port](Self::remove_half).
    pub fn remove(&self, port: &PortHandle) -> Option<MessagePort> {
        match self.take_out(port, |source| matches!(source, Source::Port(_)))? {
            Source::Port(port) => Some(port),
            Source::Half(_) => None,
        }
    }

    /// Takes a receiving half out of the loop, as [`remove`](Self::remove) takes a port.
    pub fn remove_half(&self, port: &PortHandle) -> Option<RecvHalf> {
        match self.take_out(port, |source| matches!(source, Source::Half(_)))? {
            Source::Half(half) => Some(half),
            Source::Port(_) => None,
        }
    }

    fn take_out(&self, port: &PortHandle, wanted: impl FnOnce(&Source) -> bool) -> Option<Source> {
        if !port.is_in(&self.inner) {
            return None;
        }
        let source = port.member().take(wanted)?;
        self.inner.leave(port.member());
        Some(source)
    }

    // Timers and other threads.

    /// Calls `callback` on this thread after `delay`, once: the standard's
    /// [`setTimeout`](https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html#dom-settimeout).
    /// It is never called early, and late by as long as the handlers before it take and about a millisecond. Of several
    /// that are due, the earliest comes first.
    pub fn set_timeout(&self, delay: Duration, callback: impl FnOnce(&EventLoop) + 'static) -> TimerId {
        let id = self.inner.timers.borrow_mut().add(delay, Box::new(callback));
        if self.inner.embedded.get() && !self.inner.running.get() {
            self.inner.set_alarm();
        }
        id
    }

    /// Drops a timer. False if it has been called or dropped already.
    pub fn clear_timeout(&self, id: TimerId) -> bool {
        let timer = self.inner.timers.borrow_mut().remove(id);
        timer.is_some() // dropped when nothing is borrowed
    }

    /// A handle for other threads.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle::new(&self.inner.shared)
    }

    // How to run.

    /// Makes the present [`run`](Self::run) return, or if there is none, the next; see [`LoopHandle::stop`].
    pub fn stop(&self) {
        self.inner.shared.stop();
    }

    /// Most messages of one port that are dispatched before the other ports, timers and tasks have their turn: 1000 by
    /// default, 1 at least.
    pub fn set_batch(&self, messages: usize) {
        self.inner.batch.set(messages.max(1));
    }

    /// How long [`run`](Self::run) spins before it sleeps; see [`MessagePort::set_spin`]. While it spins it looks at the
    /// ports that had messages last, and at everything else every 50 us.
    pub fn set_spin(&self, budget: Duration) {
        self.inner.poller.borrow().spin.set_budget(budget);
    }

    /// Sets what is called when something goes wrong that nobody else is told. By default, a panic is left to the panic
    /// hook, which has printed it, and a shortage is printed on standard error.
    pub fn set_onerror(&self, handler: impl FnMut(&ErrorEvent) + 'static) {
        drop(self.inner.onerror.replace(Some(Box::new(handler))));
    }

    /// Dispatches until it is [stopped](Self::stop), or until nothing is left that could happen: no port with a handler,
    /// no timer, no [`LoopHandle`] and no task.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) from inside a handler: a loop does not run within itself;
    /// [`Unsupported`](io::ErrorKind::Unsupported) in a forked child; or the system refuses to wait.
    pub fn run(&self) -> io::Result<()> {
        self.run_until(None, false).map(drop)
    }

    /// As [`run`](Self::run), for at most `timeout`.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.run_until(Instant::now().checked_add(timeout), false).map(drop)
    }

    /// Waits until there is something to dispatch and dispatches one round: tasks, timers that are due, and a batch of
    /// each port with messages. Returns the number of events, timers and tasks: 0 if the loop was stopped, or if nothing
    /// is left that could happen.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_once(&self) -> io::Result<usize> {
        self.run_until(None, true)
    }

    /// As [`run_once`](Self::run_once), waiting at most for `timeout`: then it returns 0. [`dispatch`](Self::dispatch)
    /// does not wait.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn run_once_timeout(&self, timeout: Duration) -> io::Result<usize> {
        self.run_until(Instant::now().checked_add(timeout), true)
    }

    fn run_until(&self, deadline: Option<Instant>, once: bool) -> io::Result<usize> {
        let _running = self.inner.enter()?;
        let mut looked = false;
        loop {
            let count = self.round();
            if self.inner.shared.take_stop() || (once && count > 0) {
                return Ok(count);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let over = late || (count == 0 && self.inner.is_done());
            if over && looked {
                return Ok(count);
            }
            let timer = self.inner.timers.borrow().first();
            // At the end too the descriptors are looked at once.
            let until = if over { Some(Instant::now()) } else { [deadline, timer].into_iter().flatten().min() };
            let woken = || self.inner.shared.has_news();
            self.inner.poller.borrow_mut().wait(until, woken).map_err(io_error)?;
            looked = true;
        }
    }

    /// Dispatches one round of what is there now and does not wait, for a program that has a loop of its own. Returns the
    /// number of events, timers and tasks. See [the descriptor](#impl-AsFd-for-EventLoop).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn dispatch(&self) -> io::Result<usize> {
        let _running = self.inner.enter()?;
        let mut poller = self.inner.poller.borrow_mut();
        poller.settle(); // `run_once` may have left ports whose messages are no edges
        poller.poll_epoll(Duration::ZERO).map_err(io_error)?;
        drop(poller);
        let count = self.round();
        self.inner.shared.take_stop();
        let mut poller = self.inner.poller.borrow_mut();
        poller.settle();
        if poller.has_ready() || self.inner.shared.has_news() {
            self.inner.shared.ring();
        }
        drop(poller);
        self.inner.set_alarm();
        Ok(count)
    }

    /// Tasks, timers, and a turn for each port that is ready now.
    fn round(&self) -> usize {
        let shared = &self.inner.shared;
        let mut count = 0;
        for _ in 0..shared.take_news() {
            if shared.is_stopping() {
                shared.tell(); // the rest waits
                break;
            }
            let Some(task) = shared.next_task() else { break };
            self.call(task);
            count += 1;
        }
        let end = self.inner.timers.borrow().end();
        while !shared.is_stopping()
            && let Some(timer) = self.inner.due_timer(end)
        {
            self.call(timer);
            count += 1;
        }
        let turns = self.inner.poller.borrow().ready_len();
        for _ in 0..turns {
            if shared.is_stopping() {
                break;
            }
            let next = self.inner.poller.borrow_mut().next();
            let Some(key) = next else { break };
            count += self.inner.turn(key);
        }
        count
    }

    fn call(&self, callback: impl FnOnce(&EventLoop)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(self))) {
            self.inner.report(ErrorEvent::Panic(payload));
        }
    }
}

impl Inner {
    fn enter(&self) -> io::Result<Running<'_>> {
        if !self.poller.borrow().is_here() {
            return Err(forked());
        }
        if self.running.replace(true) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "the event loop is running already"));
        }
        Ok(Running(&self.running))
    }

    /// Nothing is left that could happen.
    fn is_done(&self) -> bool {
        self.holding.get() == 0
            && self.timers.borrow().first().is_none()
            && !self.shared.has_handles()
            && !self.shared.has_news()
    }

    fn due_timer(&self, end: u64) -> Option<Timer> {
        let mut timers = self.timers.borrow_mut();
        timers.first()?;
        timers.take_due(Instant::now(), end)
    }

    /// A batch of one port's events.
    fn turn(&self, key: u64) -> usize {
        let Some(port) = self.poller.borrow().get(key).map(|member| PortHandle::new(Rc::clone(member))) else {
            return 0;
        };
        let member = Rc::clone(port.member());
        let mut event = self.spare.take();
        let mut count = 0;
        let after = loop {
            if count == self.batch.get() || self.shared.is_stopping() {
                break After::Again;
            }
            match member.take_next(&mut event.message) {
                Found::Message => port.fire(&mut event),
                Found::Disabled => break After::Leave,
                Found::Failed(TryRecvError::Empty) => break After::Empty,
                Found::Failed(TryRecvError::Failed(error)) => match error {
                    RecvError::MessageError { reason, data } => port.fire(&mut MessageErrorEvent::new(reason, data)),
                    RecvError::Ended(reason) => {
                        port.fire(&mut CloseEvent::new(reason));
                        self.leave(&member);
                        count += 1;
                        break After::Leave;
                    }
                    RecvError::ResourceExhausted(error) => {
                        if !member.short.replace(true) {
                            self.report(ErrorEvent::ResourceExhausted(error));
                        }
                        break After::Nap;
                    }
                    // Whoever borrowed it has it scheduled when he gives it back.
                    RecvError::Borrowed => break After::Leave,
                    RecvError::Forked | RecvError::PortClosed | RecvError::Detached => {
                        self.leave(&member);
                        break After::Leave;
                    }
                },
            }
            member.short.set(false);
            count += 1;
        };
        event.message.clear();
        self.spare.set(event);
        let mut poller = self.poller.borrow_mut();
        if count > 0 || matches!(after, After::Leave) {
            poller.found_message(key);
        }
        match after {
            After::Again => poller.schedule(key),
            After::Empty => poller.found_empty(key),
            After::Nap => poller.nap(key, SHORTAGE),
            After::Leave => {}
        }
        drop(poller);
        drop(member); // before `port`, which may be the last handle
        count
    }

    /// Takes a port out of the loop. Its handlers are dropped, the port itself with the last handle.
    pub(crate) fn leave(&self, member: &Rc<Member>) {
        if member.left.replace(true) {
            return;
        }
        let held = self.poller.borrow_mut().remove(member.key.get());
        if member.holds.replace(false) {
            self.holding.set(self.holding.get() - 1);
        }
        member.handlers.clear();
        drop(held); // when nothing is borrowed
    }

    pub(crate) fn note_handlers(&self, member: &Member) {
        let holds = !member.left.get() && !member.handlers.is_empty();
        if member.holds.replace(holds) != holds {
            let holding = self.holding.get();
            self.holding.set(if holds { holding + 1 } else { holding - 1 });
        }
    }

    /// Has a port looked at.
    pub(crate) fn schedule(&self, key: u64) {
        self.poller.borrow_mut().schedule(key);
        self.nudge();
    }

    /// Something is to be done that no descriptor tells: in another program's loop, our own must.
    fn nudge(&self) {
        if self.embedded.get() && !self.running.get() {
            self.shared.ring();
        }
    }

    /// For another program's loop, which knows nothing of timers and naps.
    fn set_alarm(&self) {
        if !self.poller.borrow().is_here() {
            return;
        }
        let first = [self.timers.borrow().first(), self.poller.borrow().next_nap()].into_iter().flatten().min();
        if first.is_none() && !self.alarm_is_set.get() {
            return;
        }
        self.alarm_is_set.set(first.is_some());
        self.alarm.set(first.map(|first| first.saturating_duration_since(Instant::now())));
    }

    pub(crate) fn report(&self, event: ErrorEvent) {
        let Some(mut handler) = self.onerror.take() else {
            if matches!(event, ErrorEvent::ResourceExhausted(_)) {
                eprintln!("messageport: {event:#}");
            }
            return;
        };
        // A panic of this one has nobody to be told.
        let _ = catch_unwind(AssertUnwindSafe(|| handler(&event)));
        let newer = self.onerror.take();
        self.onerror.set(newer.or(Some(handler)));
    }
}

/// What a turn leaves to be done for its port.
enum After {
    /// There may be more.
    Again,
    Empty,
    Nap,
    /// Nothing, until somebody says otherwise.
    Leave,
}

struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tasks = self.shared.end();
        let timers = self.timers.get_mut().take_all();
        for member in self.poller.get_mut().take_all() {
            member.left.set(true);
            member.close();
            // A handler may own handles, of its own port too.
            member.handlers.clear();
        }
        drop((tasks, timers));
    }
}

/// The descriptor to wait on in another program's `poll` or `epoll`, level-triggered.
///
/// When it is readable, call [`dispatch`](EventLoop::dispatch); that is the whole contract. It becomes readable for
/// messages, ends, timers, tasks and whatever else there is to do. Poll it for reading only.
impl AsFd for EventLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if !self.inner.embedded.replace(true) {
            self.inner.shared.ring();
        }
        self.inner.set.as_fd()
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.inner.poller.try_borrow().map(|poller| poller.len()).ok();
        f.debug_struct("EventLoop").field("ports", &ports).finish_non_exhaustive()
    }
}

fn forked() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the event loop was inherited by fork and belongs to the parent process")
}
