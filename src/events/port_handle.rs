//! `PortHandle`: a port in an event loop, with the standard's handlers.
#![forbid(unsafe_code)]

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::event::{CloseEvent, ErrorEvent, MessageErrorEvent, MessageEvent, PortEvent};
use super::handlers::{AllHandlers, Callback, HandlerId};
use super::{EventLoop, Inner};
use crate::end::State;
use crate::error::{CloseReason, PostDataError, PostErrorKind, RecvError, RecvTimeoutError, TryRecvError};
use crate::poll::poller::Watchable;
use crate::port::message::Message;
use crate::port::transfer::{PostError, TransferRef, Transferable};
use crate::port::{MessagePort, RecvHalf};
use crate::sys::exclusive::Exclusive;

/// A port in an [`EventLoop`]: the standard's `MessagePort` as an
/// [`EventTarget`](https://dom.spec.whatwg.org/#interface-eventtarget).
///
/// A *handler* is what the standard calls an event listener, whether an attribute such as `onmessage` sets it or
/// [`add_handler`](Self::add_handler) adds it. (A [`Listener`](crate::Listener) is something else: it accepts
/// connections.)
///
/// Clones stand for the same port and stay on the loop's thread. A handler is called with the port and the event. It
/// need not be `Send` and may do anything: post, close, transfer, add and remove handlers and ports, including its own.
/// The loop calls the handlers, except that [`dispatch_event`](Self::dispatch_event) calls them at once.
///
/// A port is *disabled* when it is added: its messages stay queued until [`start`](Self::start), which the first
/// [`set_onmessage`](Self::set_onmessage) calls. From then on each message is dispatched to the message handlers, and
/// dropped if there are none.
///
/// # How long a port lives
/// A port with a handler stays in the loop, with or without a handle, until it is closed, transferred or removed, until
/// its peer is gone and the `close` event has been dispatched, or until the loop is dropped. Then its handlers are
/// dropped. A port without a handler is closed when its last handle is dropped.
#[derive(Clone)]
pub struct PortHandle {
    member: Rc<Member>,
}

/// A port in a loop.
pub(crate) struct Member {
    /// `None` after the port has been taken out of the loop.
    source: RefCell<Option<Source>>,
    pub(crate) handlers: AllHandlers,
    enabled: Cell<bool>,
    /// The port's key in the loop's poller; set once.
    pub(crate) key: Cell<u64>,
    /// The port has left the loop.
    pub(crate) left: Cell<bool>,
    /// The port has handlers, and is counted as keeping the loop running.
    pub(crate) holds: Cell<bool>,
    /// The `close` event has been fired.
    pub(crate) close_fired: Cell<bool>,
    /// A shortage has been reported, and no message has been received since.
    pub(crate) short: Cell<bool>,
    event_loop: Weak<Inner>,
}

/// A whole port or its receiving half, from which a loop receives.
pub(crate) enum Source {
    Port(MessagePort),
    Half(RecvHalf),
}

impl Source {
    fn receiver(&self) -> &RecvHalf {
        match self {
            Self::Port(port) => &port.receiver,
            Self::Half(half) => half,
        }
    }
}

/// What a receive in a port's turn returns.
pub(crate) enum Found {
    Message,
    /// There is a message, which waits until the port is started.
    Disabled,
    Failed(TryRecvError),
}

impl Member {
    pub(crate) fn new(source: Source, event_loop: Weak<Inner>) -> Rc<Self> {
        Rc::new(Self {
            source: RefCell::new(Some(source)),
            handlers: AllHandlers::new(),
            enabled: Cell::new(false),
            key: Cell::new(u64::MAX),
            left: Cell::new(false),
            holds: Cell::new(false),
            close_fired: Cell::new(false),
            short: Cell::new(false),
            event_loop,
        })
    }

    /// Receives the next message, if the port is enabled; after a close, the next of those that were queued then.
    #[inline]
    pub(crate) fn take_next(&self, message: &mut Message) -> Found {
        let source = self.source.borrow();
        let Some(source) = source.as_ref() else { return Found::Failed(RecvError::Detached.into()) };
        let (half, enabled) = (source.receiver(), self.enabled.get());
        let result = if enabled { half.try_recv_into(message) } else { half.check_for_message() };
        let result = match result {
            Err(TryRecvError::Failed(RecvError::PortClosed)) if enabled => half.take_queued(message),
            result => result,
        };
        match result {
            Ok(()) if enabled => Found::Message,
            Ok(()) => Found::Disabled,
            Err(error) => Found::Failed(error),
        }
    }

    /// Why the peer is gone, if it is, although messages may be queued.
    pub(crate) fn peer_end(&self) -> Option<CloseReason> {
        self.with(|half| {
            let end = half.end();
            let is_gone = || end.peer_has_closed() || end.lane().hung_up();
            end.gone().or_else(|| is_gone().then(|| end.note_peer_gone()))
        })?
    }

    /// True if no handler can be called without a further call from outside: there is none, or the port is not started
    /// and its peer is gone.
    pub(crate) fn is_idle(&self) -> bool {
        self.handlers.is_empty() || (self.close_fired.get() && !self.enabled.get())
    }

    /// Takes the port out if `wanted` accepts it and it is not borrowed.
    pub(crate) fn take(&self, wanted: impl FnOnce(&Source) -> bool) -> Option<Source> {
        let mut source = self.source.try_borrow_mut().ok()?;
        let taken = source.take_if(|source| wanted(source))?;
        taken.receiver().unwatch();
        taken.receiver().end().set_dispatched(false);
        Some(taken)
    }

    /// Calls `visit` with the receiving half, unless the port has been taken out of the loop.
    fn with<R>(&self, visit: impl FnOnce(&RecvHalf) -> R) -> Option<R> {
        self.source.try_borrow().ok()?.as_ref().map(|source| visit(source.receiver()))
    }

    /// Closes the port. What is queued in it is dropped, unless the port is enabled.
    fn close(&self) {
        self.with(RecvHalf::close);
    }

    /// Closes the port and drops what is queued in it.
    pub(crate) fn drop_queue(&self) {
        self.with(|half| {
            half.end().set_dispatched(false);
            half.close();
        });
    }

    /// Drops what a closed port would still have dispatched.
    pub(crate) fn stop_dispatching(&self) {
        self.with(|half| {
            half.end().set_dispatched(false);
            if half.end().home().is_here() && half.end().state() == State::Closed {
                half.close();
                half.end().buffers().give_up();
            }
        });
    }

    /// True if messages of a closed port are still to be dispatched.
    fn has_queue_to_dispatch(&self) -> bool {
        let has_record = |half: &RecvHalf| half.end().home().is_here() && half.has_record();
        self.enabled.get() && !self.handlers.is_empty() && self.with(has_record).unwrap_or(false)
    }
}

impl Watchable for Rc<Member> {
    fn with<R>(&self, visit: impl FnOnce(&RecvHalf) -> R) -> Option<R> {
        Member::with(self, visit)
    }
}

impl PortHandle {
    pub(crate) fn new(member: Rc<Member>) -> Self {
        Self { member }
    }

    pub(crate) fn member(&self) -> &Rc<Member> {
        &self.member
    }

    pub(crate) fn handlers(&self) -> &AllHandlers {
        &self.member.handlers
    }

    pub(crate) fn is_in(&self, inner: &Rc<Inner>) -> bool {
        Weak::as_ptr(&self.member.event_loop) == Rc::as_ptr(inner)
    }

    /// The loop, unless it has been dropped. A handler should get the loop here: a handler that owned a clone of it
    /// would keep the loop, and so itself, alive.
    pub fn event_loop(&self) -> Option<EventLoop> {
        self.member.event_loop.upgrade().map(EventLoop::from_inner)
    }

    // Posting and receiving.

    /// Posts a message; see [`MessagePort::post_message`].
    ///
    /// # Errors
    /// Those of [`MessagePort::post_message`]; [`Detached`](PostErrorKind::Detached) also for a port that was taken out
    /// of the loop, and for a port whose sending half is not in the loop ([`EventLoop::add_half`]).
    pub fn post_message(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        let kind = match self.member.source.borrow().as_ref() {
            Some(Source::Port(port)) => return port.post_message(data, transfer),
            Some(Source::Half(_)) | None => PostErrorKind::Detached,
        };
        Err(PostError::new(kind, transfer.into_iter().collect()))
    }

    /// Posts a message of data alone; see [`MessagePort::post_data`].
    ///
    /// # Errors
    /// Those of [`MessagePort::post_data`], and `Detached` as for [`post_message`](Self::post_message).
    pub fn post_data(&self, data: impl AsRef<[u8]>) -> Result<(), PostDataError> {
        match self.member.source.borrow().as_ref() {
            Some(Source::Port(port)) => port.post_data(data),
            Some(Source::Half(_)) | None => Err(PostDataError::Detached),
        }
    }

    /// Posts a message with a borrowed transfer list; see [`MessagePort::post_message_detaching`]. To transfer a port
    /// of a loop, borrow it with [`port`](Self::port).
    ///
    /// # Errors
    /// Those of [`MessagePort::post_message_detaching`], and `Detached` as for [`post_message`](Self::post_message).
    pub fn post_message_detaching(
        &self,
        data: impl AsRef<[u8]>,
        transfer: &[TransferRef<'_>],
    ) -> Result<(), PostErrorKind> {
        match self.member.source.borrow().as_ref() {
            Some(Source::Port(port)) => port.post_message_detaching(data, transfer),
            Some(Source::Half(_)) | None => Err(PostErrorKind::Detached),
        }
    }

    /// Borrows the port itself, for everything else that a port can do. `None` if it has been taken out of the loop, or
    /// if the loop has only its receiving half.
    ///
    /// This is how a port of a loop is transferred: if the post succeeds, the port leaves the loop with all messages
    /// that have not been dispatched; if the post fails, nothing changes.
    /// ```
    /// # use messageport::{EventLoop, MessageChannel, TransferRef};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (carrier, channel) = (MessageChannel::new()?, MessageChannel::new()?);
    /// let events = EventLoop::new()?;
    /// let handle = events.add(channel.port2)?;
    /// let port = handle.port().expect("it is in the loop");
    /// carrier.port1.post_message_detaching(b"a port", &[TransferRef::from(&*port)])?;
    /// # Ok(()) }
    /// ```
    pub fn port(&self) -> Option<PortRef<'_>> {
        let source = self.member.source.try_borrow().ok()?;
        let port = Ref::filter_map(source, |source| match source {
            Some(Source::Port(port)) => Some(port),
            _ => None,
        });
        Some(PortRef { port: port.ok()?, handle: self })
    }

    /// Takes the next message without calling a handler; see [`MessagePort::recv`]. The port need not be started. The
    /// loop does not run while this waits.
    ///
    /// # Errors
    /// Those of [`MessagePort::recv`]; [`Detached`](RecvError::Detached) also for a port that was taken out of the
    /// loop.
    pub fn recv(&self) -> Result<Message, RecvError> {
        self.pull(RecvHalf::recv).ok_or(RecvError::Detached)?
    }

    /// Takes the next message if there is one, without calling a handler; see [`MessagePort::try_recv`].
    ///
    /// # Errors
    /// Those of [`MessagePort::try_recv`]; [`Detached`](RecvError::Detached) also for a port that was taken out of the
    /// loop.
    pub fn try_recv(&self) -> Result<Message, TryRecvError> {
        self.pull(RecvHalf::try_recv).ok_or(RecvError::Detached)?
    }

    /// Takes the next message, waiting for at most `timeout`, without calling a handler; see
    /// [`MessagePort::recv_timeout`].
    ///
    /// # Errors
    /// Those of [`MessagePort::recv_timeout`]; [`Detached`](RecvError::Detached) also for a port that was taken out of
    /// the loop.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, RecvTimeoutError> {
        self.pull(|half| half.recv_timeout(timeout)).ok_or(RecvError::Detached)?
    }

    fn pull<R>(&self, pull: impl FnOnce(&RecvHalf) -> R) -> Option<R> {
        let result = self.member.with(pull);
        self.schedule(); // the receive may have used up the wake-up that the loop waits for
        result
    }

    /// Enables the port's queue: the standard's
    /// [`start()`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-start). The loop then
    /// dispatches the queued messages. A port cannot be disabled again. Does nothing on a closed port or a started
    /// port.
    pub fn start(&self) {
        // The only step: enable the port message queue, if it is not enabled. The queue itself is in shared memory and
        // works all the time; what is enabled is the loop's receiving from it.
        if !self.member.enabled.replace(true) {
            self.member.with(|half| half.end().set_dispatched(true));
            self.note_handlers();
            self.schedule();
        }
    }

    /// Closes the port: the standard's
    /// [`close()`](https://html.spec.whatwg.org/multipage/web-messaging.html#dom-messageport-close). Posts and pull
    /// calls return `PortClosed` at once. The `close` event is the peer's; there is none here.
    ///
    /// What was queued in a *started* port is still dispatched to its handlers, as the standard's queued tasks are;
    /// then the port leaves the loop, and its handlers are dropped. This differs from [`MessagePort::close`], which
    /// drops what is unread, as does the close of a port that is not started. A message that the peer posts while the
    /// port is being closed may be dispatched or dropped. To drop what is queued in a started port, [remove the
    /// handlers](Self::remove_handler) first, or [take the port out](EventLoop::remove) and drop it.
    pub fn close(&self) {
        // 1. and 2. of the standard's `close()`: detach the port, and disentangle it. The tasks of the port message
        // queue stay.
        self.member.close();
        let Some(inner) = self.member.event_loop.upgrade() else { return };
        if self.member.has_queue_to_dispatch() {
            inner.schedule(self.member.key.get());
        } else {
            inner.leave(&self.member);
        }
    }

    // Handlers.

    /// Sets the handler of messages, in place of the previous `onmessage`: the standard's
    /// [`onmessage`](https://html.spec.whatwg.org/multipage/web-messaging.html#handler-messageport-onmessage). The
    /// first call starts the port. [Removing](Self::remove_handler) the handler is `onmessage = null`.
    pub fn set_onmessage(&self, handler: impl FnMut(&PortHandle, &mut MessageEvent) + 'static) -> HandlerId {
        let id = self.set_on(handler);
        // The standard: the first time the attribute is set, the queue is enabled as if by `start()`.
        self.start();
        id
    }

    /// Sets the handler of messages that could not be made for this receiver, in place of the previous
    /// `onmessageerror`: the standard's
    /// [`onmessageerror`](https://html.spec.whatwg.org/multipage/web-messaging.html#handler-messageport-onmessageerror).
    pub fn set_onmessageerror(&self, handler: impl FnMut(&PortHandle, &mut MessageErrorEvent) + 'static) -> HandlerId {
        self.set_on(handler)
    }

    /// Sets the handler of the peer's end, in place of the previous `onclose`: the standard's
    /// [`onclose`](https://html.spec.whatwg.org/multipage/web-messaging.html#handler-messageport-onclose). It is called
    /// once: on a started port after the last message has been dispatched, on a port that is not started as soon as the
    /// peer is gone, although messages may be queued. Those can still be received, and are dispatched if the port is
    /// started later. The pull calls differ: they return the end after the last message, on any port.
    pub fn set_onclose(&self, handler: impl FnMut(&PortHandle, &mut CloseEvent) + 'static) -> HandlerId {
        self.set_on(handler)
    }

    fn set_on<E: PortEvent>(&self, handler: impl FnMut(&PortHandle, &mut E) + 'static) -> HandlerId {
        let id = self.handlers().new_id();
        if self.member.left.get() {
            return id; // the port has no further events
        }
        let id = E::handlers(self).set_on(id, Box::new(handler));
        self.note_handlers();
        id
    }

    /// Adds a handler: the standard's
    /// [`addEventListener`](https://dom.spec.whatwg.org/#dom-eventtarget-addeventlistener). The type of its second
    /// parameter selects the event. Does not start the port. Does nothing on a port that has left the loop.
    ///
    /// ```
    /// # use messageport::{EventLoop, Message, MessageChannel, MessageEvent};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let channel = MessageChannel::new()?;
    /// let events = EventLoop::new()?;
    /// let port = events.add(channel.port2)?;
    /// port.add_handler(|port, event: &mut MessageEvent| {
    ///     let Message { data, ports, .. } = &mut event.message;
    ///     port.post_message(data, ports.drain(..).map(Into::into)).unwrap();
    /// });
    /// port.start();
    /// # Ok(()) }
    /// ```
    pub fn add_handler<E: PortEvent>(&self, handler: impl FnMut(&PortHandle, &mut E) + 'static) -> HandlerId {
        self.add(false, Box::new(handler))
    }

    /// Adds a handler that is removed before it is called: the standard's `addEventListener` with `once`.
    pub fn add_handler_once<E: PortEvent>(&self, handler: impl FnMut(&PortHandle, &mut E) + 'static) -> HandlerId {
        self.add(true, Box::new(handler))
    }

    fn add<E: PortEvent>(&self, once: bool, handler: Callback<E>) -> HandlerId {
        let id = self.handlers().new_id();
        if !self.member.left.get() {
            E::handlers(self).add(id, once, handler);
            self.note_handlers();
        }
        id
    }

    /// Removes a handler: the standard's
    /// [`removeEventListener`](https://dom.spec.whatwg.org/#dom-eventtarget-removeeventlistener). A handler may remove
    /// itself. False if the port no longer has such a handler.
    pub fn remove_handler(&self, id: HandlerId) -> bool {
        let removed = self.handlers().remove(id);
        self.note_handlers();
        removed
    }

    /// Calls the handlers of `event` at once, in the order in which they were added: the standard's
    /// [`dispatchEvent`](https://dom.spec.whatwg.org/#dom-eventtarget-dispatchevent). Neither reads nor changes the
    /// port and its queue. A handler that is running already is skipped. `event` keeps what the handlers leave in it.
    pub fn dispatch_event<E: PortEvent>(&self, event: &mut E) {
        // Deviation: step 1 throws for an event that is being dispatched. Here `&mut` rules that out.
        // 2. The event is not trusted.
        event.flow_mut().trusted = false;
        // 3. Dispatch it. A port has no parent, so the event's path is this port alone.
        self.call(event);
    }

    /// Dispatches an event of the loop: the standard's [*fire an
    /// event*](https://dom.spec.whatwg.org/#concept-event-fire).
    #[inline]
    pub(crate) fn fire<E: PortEvent>(&self, event: &mut E) {
        event.flow_mut().trusted = true;
        self.call(event);
    }

    #[inline]
    fn call<E: PortEvent>(&self, event: &mut E) {
        event.flow_mut().stopped = false;
        E::handlers(self).call(self, event, self.handlers().end(), |payload| {
            if let Some(inner) = self.member.event_loop.upgrade() {
                inner.report(ErrorEvent::Panic(Exclusive::new(payload)));
            }
        });
    }

    /// Updates the count of ports that keep the loop running.
    pub(crate) fn note_handlers(&self) {
        if let Some(inner) = self.member.event_loop.upgrade() {
            inner.note_handlers(&self.member);
        }
    }

    /// Gives the port a turn in the loop.
    fn schedule(&self) {
        if let Some(inner) = self.member.event_loop.upgrade() {
            inner.schedule(self.member.key.get());
        }
    }
}

impl Drop for PortHandle {
    fn drop(&mut self) {
        // The remaining references are this handle and the loop's: no further handler can be added.
        let last = Rc::strong_count(&self.member) == 2;
        if last
            && !self.member.left.get()
            && self.member.is_idle()
            && let Some(inner) = self.member.event_loop.upgrade()
        {
            inner.leave(&self.member);
        }
    }
}

/// Clones of one handle are equal.
impl PartialEq for PortHandle {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.member, &other.member)
    }
}

impl Eq for PortHandle {}

impl fmt::Debug for PortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.member.with(|half| half.end().state());
        f.debug_struct("PortHandle")
            .field("state", &state)
            .field("enabled", &self.member.enabled.get())
            .finish_non_exhaustive()
    }
}

/// A borrowed port of a loop; see [`PortHandle::port`]. While it exists, the port cannot be
/// [taken out](EventLoop::remove) of the loop.
pub struct PortRef<'a> {
    port: Ref<'a, MessagePort>,
    handle: &'a PortHandle,
}

impl Deref for PortRef<'_> {
    type Target = MessagePort;

    fn deref(&self) -> &MessagePort {
        &self.port
    }
}

impl Drop for PortRef<'_> {
    fn drop(&mut self) {
        self.handle.schedule(); // the port may have been used in any way
    }
}

impl fmt::Debug for PortRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
