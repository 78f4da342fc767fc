//! `EventLoop`: dispatches the events of many ports, timers and tasks on one thread.
#![forbid(unsafe_code)]

pub(crate) mod watches;
pub(crate) mod port_handle;
pub(crate) mod handlers;
pub(crate) mod event;
pub(crate) mod timers;
pub(crate) mod loop_handle;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent};
use self::loop_handle::{Inbox, LoopHandle};
use self::port_handle::{Found, Member, PortHandle, Source};
use self::timers::{TimerId, Timers};
use self::watches::Watches;
use crate::error::{RecvError, Refusal, TryRecvError, WatchError};
use crate::poll::poller::{NO_PORT, Poller};
use crate::port::{MessagePort, RecvHalf};
use crate::sys::epoll::{Alarm, Epoll};
use crate::sys::exclusive::Exclusive;
use crate::sys::io_error;

/// The key of the inbox in the poller.
const INBOX: u64 = NO_PORT;
/// The key of the alarm in the poller.
const ALARM: u64 = NO_PORT + 1;

/// By default at most 1000 messages of one port are dispatched before the others have their turn.
const DEFAULT_BATCH: usize = 1000;
/// By default one call of `dispatch` starts no further message 200 us after its first, so that the timers of the
/// program around it are late by little more.
const DISPATCH_TIME: Duration = Duration::from_micros(200);

/// Dispatches the events of its ports, its timers and its tasks, on one thread: the standard's
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
/// A loop can have thousands of ports: an idle port costs nothing while others are busy. In each round, every port with
/// messages has at most a [batch](Self::set_batch) of them dispatched; tasks and due timers come between the rounds.
/// Between the messages of different ports there is no order; see [`PortSet`](crate::PortSet#order).
/// Another program's loop can drive this one: it polls its [descriptor](#impl-AsFd-for-EventLoop) and calls
/// [`dispatch`](Self::dispatch).
///
/// A panic of a handler is caught and [reported](Self::set_onerror), and the loop goes on. (In a program whose panics
/// abort, it aborts.)
///
/// Clones stand for the same loop. When the last clone is dropped, all ports in the loop are closed. A handler that
/// owns a clone keeps the loop alive: it should ask its port for [the loop](PortHandle::event_loop) instead.
#[derive(Clone)]
pub struct EventLoop {
    inner: Rc<Inner>,
}

type Repeated = Box<dyn FnMut(&EventLoop)>;

enum Timer {
    Once(Box<dyn FnOnce(&EventLoop)>),
    /// Called again after each period.
    Repeating(Duration, Rc<RefCell<Repeated>>),
}

type OnError = Box<dyn FnMut(&ErrorEvent)>;

pub(crate) struct Inner {
    poller: RefCell<Poller<Rc<Member>>>,
    /// The poller's epoll set.
    set: Arc<Epoll>,
    timers: RefCell<Timers<Timer>>,
    watches: Watches,
    inbox: Arc<Inbox>,
    alarm: Alarm,
    alarm_is_set: Cell<bool>,
    /// The descriptor has been requested: anything to dispatch must make it readable.
    embedded: Cell<bool>,
    running: Cell<bool>,
    /// Set by the user; see [`DEFAULT_BATCH`] and [`DISPATCH_TIME`].
    batch: Cell<Option<usize>>,
    /// Number of ports with handlers, which keep the loop running.
    holding: Cell<usize>,
    onerror: Cell<Option<OnError>>,
    /// The memory of the last message, for the next one.
    spare: Cell<MessageEvent>,
}

impl EventLoop {
    /// Makes a loop without ports. Takes three descriptors.
    ///
    /// # Errors
    /// The system has no memory or no descriptors.
    pub fn new() -> io::Result<Self> {
        let poller = Poller::new().map_err(io_error)?;
        let (inbox, alarm) = (Inbox::new().map_err(io_error)?, Alarm::new().map_err(io_error)?);
        poller.add_wake_up(inbox.as_fd(), INBOX).map_err(io_error)?;
        poller.add_wake_up(alarm.as_fd(), ALARM).map_err(io_error)?;
        Ok(Self::from_inner(Rc::new(Inner {
            set: Arc::clone(poller.set()),
            poller: RefCell::new(poller),
            timers: RefCell::new(Timers::new()),
            watches: Watches::default(),
            inbox: Arc::new(inbox),
            alarm,
            alarm_is_set: Cell::new(false),
            embedded: Cell::new(false),
            running: Cell::new(false),
            batch: Cell::new(None),
            holding: Cell::new(0),
            onerror: Cell::new(None),
            spare: Cell::default(),
        })))
    }

    pub(crate) fn from_inner(inner: Rc<Inner>) -> Self {
        Self { inner }
    }

    // Ports.

    /// Adds a port. It is disabled and has no handlers.
    ///
    /// # Errors
    /// The system cannot watch one more descriptor, or this is a forked child; the port is in the error.
    pub fn add(&self, port: MessagePort) -> Result<PortHandle, Refusal<WatchError, MessagePort>> {
        self.add_source(Source::Port(port)).map_err(|(error, source)| match source {
            Source::Port(port) => Refusal::new(error, port),
            Source::Half(_) => unreachable!("a port was passed"),
        })
    }

    /// Adds the receiving half of a port, whose sending half another thread may use. The handle differs from that of a
    /// whole port only in that it cannot post ([`Detached`](crate::PostErrorKind::Detached)).
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    pub fn add_half(&self, half: RecvHalf) -> Result<PortHandle, Refusal<WatchError, RecvHalf>> {
        self.add_source(Source::Half(half)).map_err(|(error, source)| match source {
            Source::Half(port) => Refusal::new(error, port),
            Source::Port(_) => unreachable!("a half was passed"),
        })
    }

    fn add_source(&self, source: Source) -> Result<PortHandle, (WatchError, Source)> {
        if !self.inner.poller.borrow().is_here() {
            return Err((WatchError::Forked, source));
        }
        let member = Member::new(source, Rc::downgrade(&self.inner));
        let key = self.inner.poller.borrow_mut().add(Rc::clone(&member));
        match key {
            Ok(key) => {
                member.key.set(key);
                self.inner.nudge();
                Ok(PortHandle::new(member))
            }
            Err((errno, member)) => {
                let source = member.take(|_| true).expect("it was put there just now");
                Err((WatchError::System(io_error(errno)), source))
            }
        }
    }

    /// Takes a port out of the loop, with all messages that have not been dispatched. Its handlers are dropped.
    ///
    /// `None`: the port is no longer in this loop, or a [`PortRef`](crate::PortRef) borrows it, or the loop has only
    /// its [receiving half](Self::remove_half).
    pub fn remove(&self, port: &PortHandle) -> Option<MessagePort> {
        match self.take_out(port, |source| matches!(source, Source::Port(_)))? {
            Source::Port(port) => Some(port),
            Source::Half(_) => None,
        }
    }

    /// Takes a receiving half out of the loop; see [`remove`](Self::remove).
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
    /// [`setTimeout`](https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html#dom-settimeout). A timer is
    /// never early. It is late by the time that the handlers before it take, and by about a millisecond. Due timers are
    /// called in the order of their times.
    pub fn set_timeout(&self, delay: Duration, callback: impl FnOnce(&EventLoop) + 'static) -> TimerId {
        self.add_timer(delay, Timer::Once(Box::new(callback)))
    }

    /// Calls `callback` on this thread after each `period`: the standard's
    /// [`setInterval`](https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html#dom-setinterval).
    /// [`clear_timeout`](Self::clear_timeout) ends it, from inside too. A period is at least 1 ms. Periods that have
    /// passed while other callbacks ran are left out, and do not make later calls come sooner.
    pub fn set_interval(&self, period: Duration, callback: impl FnMut(&EventLoop) + 'static) -> TimerId {
        let period = period.max(Duration::from_millis(1));
        self.add_timer(period, Timer::Repeating(period, Rc::new(RefCell::new(Box::new(callback)))))
    }

    fn add_timer(&self, delay: Duration, timer: Timer) -> TimerId {
        let id = self.inner.timers.borrow_mut().add(delay, timer);
        if self.inner.embedded.get() && !self.inner.running.get() {
            self.inner.set_alarm();
        }
        id
    }

    /// Drops a timer: the standard's
    /// [`clearTimeout`](https://html.spec.whatwg.org/multipage/timers-and-user-prompts.html#dom-cleartimeout). False if
    /// it has been called, unless it [repeats](Self::set_interval), or dropped already.
    pub fn clear_timeout(&self, id: TimerId) -> bool {
        let timer = self.inner.timers.borrow_mut().remove(id);
        timer.is_some() // the callback is dropped while nothing is borrowed
    }

    /// Makes a handle for other threads.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle::new(&self.inner.inbox)
    }

    // Running.

    /// Makes the present [`run`](Self::run) return or, if the loop is not running, the next one; see
    /// [`LoopHandle::stop`].
    pub fn stop(&self) {
        self.inner.inbox.stop();
    }

    /// Sets how many messages of one port are dispatched at most before other ports, timers and tasks have their turn:
    /// 1000 by default, and at least 1.
    ///
    /// By default [`dispatch`](Self::dispatch) also returns as soon as the messages of all ports together have taken
    /// 200 us, so that the timers of the program around it are not late. A batch that was set has no such limit.
    pub fn set_batch(&self, messages: usize) {
        self.inner.batch.set(Some(messages.max(1)));
    }

    /// Sets how long [`run`](Self::run) spins before it sleeps; see [`MessagePort::set_spin`]. While it spins, it polls
    /// the ports that had messages last, and every 50 us everything else.
    pub fn set_spin(&self, budget: Duration) {
        self.inner.poller.borrow().spin.set_budget(budget);
    }

    /// Sets the handler of errors that no call returns. Without one, a panic is not reported beyond the panic hook,
    /// which has run already; other errors are printed on standard error.
    pub fn set_onerror(&self, handler: impl FnMut(&ErrorEvent) + 'static) {
        drop(self.inner.onerror.replace(Some(Box::new(handler))));
    }

    /// Dispatches until the loop is [stopped](Self::stop), or until nothing more can happen: there is no port with
    /// a handler, no timer, no listener or other watched descriptor, no [`LoopHandle`] and no task. Handlers of a port
    /// that is not started and whose peer is gone do not count, and a [once handler](PortHandle::add_handler_once)
    /// counts until it is called.
    ///
    /// # Errors
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) inside a handler, since a loop does not run within itself;
    /// [`Unsupported`](io::ErrorKind::Unsupported) in a forked child; the system's error, if it cannot wait.
    pub fn run(&self) -> io::Result<()> {
        self.run_until(None, false).map(drop)
    }

    /// Dispatches as [`run`](Self::run) does, for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.run_until(Instant::now().checked_add(timeout), false).map(drop)
    }

    /// Waits until there is something to dispatch, and dispatches one round: tasks, due timers, and a batch of each
    /// port with messages. Returns the number of events, timers and tasks. If the loop is [stopped](Self::stop), that
    /// is what was dispatched before the stop, which can be 0; it is 0 too if nothing more can happen.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_once(&self) -> io::Result<usize> {
        self.run_until(None, true)
    }

    /// Dispatches one round as [`run_once`](Self::run_once) does, after waiting for at most `timeout`. Returns 0 if
    /// nothing came in time. ([`dispatch`](Self::dispatch) does not wait.)
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn run_once_timeout(&self, timeout: Duration) -> io::Result<usize> {
        self.run_until(Instant::now().checked_add(timeout), true)
    }

    fn run_until(&self, deadline: Option<Instant>, once: bool) -> io::Result<usize> {
        let _running = self.inner.enter()?;
        let mut polled = false;
        loop {
            let count = self.round(None);
            if self.inner.inbox.take_stop() || (once && count > 0) {
                return Ok(count);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let done = self.inner.is_done();
            // Before the end the descriptors are polled once, in any case; and after each round that did something.
            if polled && (late || (done && count == 0)) {
                return Ok(count);
            }
            let timer = self.inner.timers.borrow().first();
            let until = if late || done { Some(Instant::now()) } else { [deadline, timer].into_iter().flatten().min() };
            let woken = || self.inner.inbox.has_news();
            self.inner.poller.borrow_mut().wait(until, woken).map_err(io_error)?;
            polled = true;
        }
    }

    /// Dispatches one round without waiting, for example when another program's loop has found
    /// [the descriptor](#impl-AsFd-for-EventLoop) readable. Returns the number of events, timers and tasks. What a
    /// [batch](Self::set_batch) leaves over keeps the descriptor readable.
    ///
    /// # Errors
    /// Those of [`run`](Self::run).
    pub fn dispatch(&self) -> io::Result<usize> {
        let _running = self.inner.enter()?;
        let mut poller = self.inner.poller.borrow_mut();
        poller.settle(); // a message for a port that a run has left warm is not an edge
        poller.poll_epoll(Duration::ZERO).map_err(io_error)?;
        drop(poller);
        let count = self.round(self.inner.batch.get().is_none().then_some(DISPATCH_TIME));
        self.inner.inbox.take_stop();
        let mut poller = self.inner.poller.borrow_mut();
        poller.settle();
        if poller.has_ready() || self.inner.inbox.has_news() {
            self.inner.inbox.ring();
        }
        drop(poller);
        self.inner.set_alarm();
        Ok(count)
    }

    /// Calls the tasks, the due timers, and gives a turn to each port that is ready now, as long as the turns together
    /// take no longer than `time`. Returns how much was dispatched.
    fn round(&self, time: Option<Duration>) -> usize {
        let inbox = &self.inner.inbox;
        let mut count = 0;
        for _ in 0..inbox.take_news() {
            if inbox.is_stopping() {
                inbox.notify(); // the other tasks are called later
                break;
            }
            let Some(task) = inbox.next_task() else { break };
            self.call(task);
            count += 1;
        }
        count += self.call_timers();
        if !inbox.is_stopping() {
            let ready = self.inner.poller.borrow_mut().take_ready_watches();
            count += self.call_watches(ready);
        }
        let turns = self.inner.poller.borrow().ready_len();
        let (before, end) = (count, time.map(|time| Instant::now() + time));
        for _ in 0..turns {
            if inbox.is_stopping() || (count > before && is_over(end)) {
                break;
            }
            let next = self.inner.poller.borrow_mut().next();
            let Some(key) = next else { break };
            count += self.inner.turn(key, end);
        }
        count
    }

    /// Calls the timers that are due now, but none that is set meanwhile.
    fn call_timers(&self) -> usize {
        let mut count = 0;
        let end = self.inner.timers.borrow().next_number();
        let mut now = None;
        while !self.inner.inbox.is_stopping() && self.inner.timers.borrow().first().is_some() {
            let now = *now.get_or_insert_with(Instant::now);
            let due = self.inner.timers.borrow_mut().take_due(now, end);
            match due {
                None => break,
                Some((_, Timer::Once(callback))) => self.call(callback),
                Some((id, Timer::Repeating(period, callback))) => {
                    let again = Timer::Repeating(period, Rc::clone(&callback));
                    self.inner.timers.borrow_mut().repeat(id, period, now, again);
                    self.call(|events| callback.borrow_mut()(events));
                }
            }
            count += 1;
        }
        count
    }

    fn call(&self, callback: impl FnOnce(&EventLoop)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| callback(self))) {
            self.inner.report(ErrorEvent::Panic(Exclusive::new(payload)));
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

    /// True if nothing more can happen.
    fn is_done(&self) -> bool {
        self.holding.get() == 0
            && self.timers.borrow().first().is_none()
            && self.watches.is_empty()
            && !self.inbox.has_handles()
            && !self.inbox.has_news()
    }

    /// Dispatches a batch of one port's events, and after `end` not a second one. Returns their number.
    ///
    /// For each message this is the task that the standard's [*message port post message
    /// steps*](https://html.spec.whatwg.org/multipage/web-messaging.html#message-port-post-message-steps) add to the
    /// port message queue, in their step 7.
    fn turn(&self, key: u64, end: Option<Instant>) -> usize {
        let Some(port) = self.poller.borrow().get(key).map(|member| PortHandle::new(Rc::clone(member))) else {
            return 0;
        };
        let member = Rc::clone(port.member());
        let mut event = self.spare.take();
        let (mut count, batch) = (0, self.batch.get().unwrap_or(DEFAULT_BATCH));
        let after = loop {
            if count == batch || self.inbox.is_stopping() || (count > 0 && is_over(end)) {
                break After::Again;
            }
            // 7.1 The port is the final target: a message moves with its queue.
            // 7.2 to 7.5 Deserialize the message with its transferred things.
            match member.take_next(&mut event.message) {
                // 7.6 Fire `message`.
                Found::Message => port.fire(&mut event),
                Found::Disabled => {
                    // The standard fires `close` as soon as the peer is gone, on a port that is not started too. Its
                    // messages wait on.
                    if let Some(reason) = member.peer_end()
                        && !member.close_fired.replace(true)
                    {
                        port.fire(&mut CloseEvent::new(reason));
                        port.note_handlers();
                        count += 1;
                    }
                    break After::Leave;
                }
                Found::Failed(TryRecvError::Empty) => break After::Empty,
                Found::Failed(TryRecvError::Failed(error)) => match error {
                    // 7.3 If that fails, fire `messageerror`.
                    RecvError::MessageError { reason, data } => port.fire(&mut MessageErrorEvent::new(reason, data)),
                    // Step 4 of *disentangle*, at the other end: fire `close`.
                    RecvError::Ended(reason) => {
                        if !member.close_fired.replace(true) {
                            port.fire(&mut CloseEvent::new(reason));
                            count += 1;
                        }
                        self.leave(&member);
                        break After::Leave;
                    }
                    RecvError::ResourceExhausted(error) => {
                        if !member.short.replace(true) {
                            self.report(ErrorEvent::ResourceExhausted(error));
                        }
                        break After::Nap;
                    }
                    // The port is scheduled again when the `PortRef` is dropped.
                    RecvError::Borrowed => break After::Leave,
                    // A receive that does not wait is not interrupted.
                    RecvError::Forked | RecvError::PortClosed | RecvError::Detached | RecvError::Interrupted => {
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
            After::Nap => poller.nap_short(key),
            After::Leave => {}
        }
        drop(poller);
        drop(member); // before `port`, which may be the last handle and counts the references
        count
    }

    /// Takes a port out of the loop. Its handlers are dropped now, the port itself with its last handle.
    pub(crate) fn leave(&self, member: &Rc<Member>) {
        if member.left.replace(true) {
            return;
        }
        member.stop_dispatching();
        let removed = self.poller.borrow_mut().remove(member.key.get());
        if member.holds.replace(false) {
            self.holding.set(self.holding.get() - 1);
        }
        member.handlers.clear();
        drop(removed); // while nothing is borrowed
    }

    /// Updates the count of ports that keep the loop running.
    pub(crate) fn note_handlers(&self, member: &Member) {
        let holds = !member.left.get() && !member.is_idle();
        if member.holds.replace(holds) != holds {
            let holding = self.holding.get();
            self.holding.set(if holds { holding + 1 } else { holding - 1 });
        }
    }

    /// Gives a port a turn.
    pub(crate) fn schedule(&self, key: u64) {
        self.poller.borrow_mut().schedule(key);
        self.nudge();
    }

    /// There is something to dispatch that makes no descriptor readable. If another program polls this loop, the inbox
    /// must.
    fn nudge(&self) {
        if self.embedded.get() && !self.running.get() {
            self.inbox.ring();
        }
    }

    /// Makes the descriptor readable when the first timer or nap is due, for another program's loop.
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
            if !matches!(event, ErrorEvent::Panic(_)) {
                eprintln!("messageport: {event:#}");
            }
            return;
        };
        // A panic of the error handler is not reported.
        let _ = catch_unwind(AssertUnwindSafe(|| handler(&event)));
        let newer = self.onerror.take();
        self.onerror.set(newer.or(Some(handler)));
    }
}

fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

/// What happens to a port after its turn.
enum After {
    /// It may have more messages, and gets another turn.
    Again,
    /// Its queue was found empty.
    Empty,
    /// It cannot receive now, and is left alone for a while.
    Nap,
    /// It has no further turn until it is scheduled.
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
        let tasks = self.inbox.close();
        let timers = self.timers.get_mut().take_all();
        for member in self.poller.get_mut().take_all() {
            member.left.set(true);
            member.drop_queue();
            // A handler may own handles, even of its own port, which would keep both alive.
            member.handlers.clear();
        }
        drop((tasks, timers, self.watches.take_all()));
    }
}

/// The descriptor to wait on in another program's `poll` or `epoll`, level-triggered.
///
/// When it is readable, call [`dispatch`](EventLoop::dispatch); nothing else is required. It becomes readable for
/// messages, ends, timers, tasks and anything else that `dispatch` handles. Poll it for reading only.
impl AsFd for EventLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if !self.inner.embedded.replace(true) {
            self.inner.inbox.ring();
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
