//! The handlers of a port for one kind of event: the standard's
//! [event listener list](https://dom.spec.whatwg.org/#concept-event-listener).
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::event::{CloseEvent, MessageErrorEvent, MessageEvent, PortEvent};
use super::handle::PortHandle;

/// Names a handler of one port; see [`PortHandle::remove_handler`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandlerId(pub(crate) u64);

pub(crate) type Callback<E> = Box<dyn FnMut(&PortHandle, &mut E)>;

struct Handler<E> {
    id: HandlerId,
    once: bool,
    removed: Cell<bool>,
    /// `None` while it runs, so that it may do anything: be removed, be replaced, see other events dispatched.
    callback: Cell<Option<Callback<E>>>,
}

/// In the order in which they were added, which is that of their numbers.
pub struct Handlers<E> {
    list: RefCell<Vec<Rc<Handler<E>>>>,
    /// The one that is the event handler (`onmessage` and the like).
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

    /// The [event handler](https://html.spec.whatwg.org/multipage/webappapis.html#event-handlers) keeps its place
    /// in the order when it is set again. Returns its number: `id` if there was none.
    pub(crate) fn set_on(&self, id: HandlerId, callback: Callback<E>) -> HandlerId {
        if let Some(handler) = self.on.get().and_then(|id| self.find(id)) {
            // The old callback is dropped here, when nothing is borrowed; if it runs, when it returns.
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
        drop(list); // what the callback owns may come back here when it is dropped
        true
    }

    fn clear(&self) {
        let list = self.list.take();
        list.iter().for_each(|handler| handler.removed.set(true));
        self.on.set(None);
    }

    /// Calls the handlers in order: the standard's
    /// [inner invoke](https://dom.spec.whatwg.org/#concept-event-listener-inner-invoke). One that is removed before its
    /// turn is not called, nor one that is added meanwhile, with a number from `end` on. A handler that is running
    /// already, since it dispatched this event itself, is passed over.
    pub(crate) fn call(&self, port: &PortHandle, event: &mut E, end: u64, mut report: impl FnMut(Box<dyn Any + Send>)) {
        let mut next = 0;
        while let Some(handler) = self.from(next).filter(|handler| handler.id.0 < end) {
            next = handler.id.0 + 1;
            let Some(mut callback) = handler.callback.take() else { continue };
            if handler.once {
                self.remove(handler.id);
            }
            let result = catch_unwind(AssertUnwindSafe(|| callback(port, event)));
            if !handler.removed.get() {
                // Back to its place, unless it has been replaced meanwhile.
                let newer = handler.callback.take();
                handler.callback.set(newer.or(Some(callback)));
            }
            if let Err(payload) = result {
                report(payload);
            }
            if event.flow().stopped {
                return;
            }
        }
    }

    /// The first handler with this number or a later one.
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

    /// Greater than every number so far.
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
