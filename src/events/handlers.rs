//! The handlers of a port for one type of event: the standard's
//! [event listener list](https://dom.spec.whatwg.org/#concept-event-listener).
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::event::{CloseEvent, MessageErrorEvent, MessageEvent, PortEvent};
use super::port_handle::PortHandle;

/// Identifies a handler of one port; see [`PortHandle::remove_handler`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandlerId(pub(crate) u64);

pub(crate) type Callback<E> = Box<dyn FnMut(&PortHandle, &mut E)>;

struct Handler<E> {
    id: HandlerId,
    once: bool,
    removed: Cell<bool>,
    /// `None` while the handler runs, so that it may do anything: remove or replace itself, or dispatch events.
    callback: Cell<Option<Callback<E>>>,
}

/// The handlers for events of type `E`.
pub struct Handlers<E> {
    /// In the order in which the handlers were added, which is the order of their ids.
    list: RefCell<Vec<Rc<Handler<E>>>>,
    /// The handler that was set by `onmessage` or a similar attribute.
    on: Cell<Option<HandlerId>>,
}

impl<E: PortEvent> Handlers<E> {
    fn new() -> Self {
        Self { list: RefCell::default(), on: Cell::new(None) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(crate) fn add(&self, id: HandlerId, once: bool, callback: Callback<E>) {
        let callback = Cell::new(Some(callback));
        self.list.borrow_mut().push(Rc::new(Handler { id, once, removed: Cell::new(false), callback }));
    }

    /// Sets the [event handler](https://html.spec.whatwg.org/multipage/webappapis.html#event-handlers) of the
    /// attribute. When it is set again, it keeps its position in the order and its id. Returns the id, which is `id`
    /// the first time.
    pub(crate) fn set_on(&self, id: HandlerId, callback: Callback<E>) -> HandlerId {
        if let Some(handler) = self.on.get().and_then(|id| self.find(id)) {
            // The old callback is dropped here, while nothing is borrowed; or when it returns, if it is running.
            drop(handler.callback.replace(Some(callback)));
            return handler.id;
        }
        self.on.set(Some(id));
        self.add(id, false, callback);
        id
    }

    fn find(&self, id: HandlerId) -> Option<Rc<Handler<E>>> {
        self.list.borrow().iter().find(|handler| handler.id == id).cloned()
    }

    pub(crate) fn remove(&self, id: HandlerId) -> bool {
        let mut list = self.list.borrow_mut();
        let Some(index) = list.iter().position(|handler| handler.id == id) else { return false };
        let handler = list.remove(index);
        handler.removed.set(true);
        if self.on.get() == Some(id) {
            self.on.set(None);
        }
        drop(list); // before the callback, whose captures may call this when they are dropped
        true
    }

    fn clear(&self) {
        let list = self.list.take();
        list.iter().for_each(|handler| handler.removed.set(true));
        self.on.set(None);
    }

    /// Calls the handlers: the standard's [*inner
    /// invoke*](https://dom.spec.whatwg.org/#concept-event-listener-inner-invoke). The numbers are those of its step 2;
    /// the steps on event type, phase, current event and passive listeners have no counterpart. `end` is greater than
    /// the id of every handler that was there when the dispatch began.
    ///
    /// Deviation: a handler that is running already, because it dispatched this event itself, is skipped.
    pub(crate) fn call(&self, port: &PortHandle, event: &mut E, end: u64, mut report: impl FnMut(Box<dyn Any + Send>)) {
        let mut next = 0;
        // 2. Each handler of the list as it was, unless it has been removed.
        while let Some(handler) = self.from(next).filter(|handler| handler.id.0 < end) {
            next = handler.id.0 + 1;
            let Some(mut callback) = handler.callback.take() else { continue };
            // 2.5 A `once` handler is removed before it is called.
            if handler.once {
                self.remove(handler.id);
                port.note_handlers();
            }
            // 2.11 Call it. A panic takes the place of the exception, and is reported.
            let result = catch_unwind(AssertUnwindSafe(|| callback(port, event)));
            if !handler.removed.get() {
                // Put the callback back, unless it has been replaced meanwhile.
                let newer = handler.callback.take();
                handler.callback.set(newer.or(Some(callback)));
            }
            if let Err(payload) = result {
                report(payload);
            }
            // 2.14 Stop if the event's stop immediate propagation flag is set.
            if event.flow().stopped {
                return;
            }
        }
    }

    /// The first handler whose id is at least `id`.
    fn from(&self, id: u64) -> Option<Rc<Handler<E>>> {
        let list = self.list.borrow();
        list.get(list.partition_point(|handler| handler.id.0 < id)).cloned()
    }
}

/// All handlers of a port.
pub(crate) struct AllHandlers {
    pub(crate) message: Handlers<MessageEvent>,
    pub(crate) messageerror: Handlers<MessageErrorEvent>,
    pub(crate) close: Handlers<CloseEvent>,
    next: Cell<u64>,
}

impl AllHandlers {
    pub(crate) fn new() -> Self {
        let (message, messageerror, close) = (Handlers::new(), Handlers::new(), Handlers::new());
        Self { message, messageerror, close, next: Cell::new(0) }
    }

    pub(crate) fn new_id(&self) -> HandlerId {
        HandlerId(self.next.replace(self.next.get() + 1))
    }

    /// Greater than the id of every handler so far.
    pub(crate) fn end(&self) -> u64 {
        self.next.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.message.is_empty() && self.messageerror.is_empty() && self.close.is_empty()
    }

    pub(crate) fn remove(&self, id: HandlerId) -> bool {
        self.message.remove(id) || self.messageerror.remove(id) || self.close.remove(id)
    }

    pub(crate) fn clear(&self) {
        self.message.clear();
        self.messageerror.clear();
        self.close.clear();
    }
}
