//! The listeners of a port for one kind of event: the standard's
//! [event listener list](https://dom.spec.whatwg.org/#concept-event-listener).
#![forbid(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::event::{CloseEvent, MessageErrorEvent, MessageEvent, PortEvent};
use super::handle::PortHandle;

/// Names a listener of one port; see [`PortHandle::remove_listener`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListenerId(pub(crate) u64);

pub(crate) type Callback<E> = Box<dyn FnMut(&PortHandle, &mut E)>;

struct Listener<E> {
    id: ListenerId,
    once: bool,
    removed: Cell<bool>,
    /// `None` while it runs, so that it may do anything: be removed, be replaced, see other events dispatched.
    callback: Cell<Option<Callback<E>>>,
}

/// In the order in which they were added, which is that of their numbers.
pub struct Listeners<E> {
    list: RefCell<Vec<Rc<Listener<E>>>>,
    /// The one that is the event handler (`onmessage` and the like).
    handler: Cell<Option<ListenerId>>,
}

impl<E: PortEvent> Listeners<E> {
    fn new() -> Self {
        Self { list: RefCell::default(), handler: Cell::new(None) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(crate) fn add(&self, id: ListenerId, once: bool, callback: Callback<E>) {
        let callback = Cell::new(Some(callback));
        self.list.borrow_mut().push(Rc::new(Listener { id, once, removed: Cell::new(false), callback }));
    }

    /// The [event handler](https://html.spec.whatwg.org/multipage/webappapis.html#event-handlers) keeps its place
    /// in the order when it is set again. Returns its number: `id` if there was none.
    pub(crate) fn set_handler(&self, id: ListenerId, callback: Callback<E>) -> ListenerId {
        if let Some(listener) = self.handler.get().and_then(|id| self.find(id)) {
            // The old callback is dropped here, when nothing is borrowed; if it runs, when it returns.
            drop(listener.callback.replace(Some(callback)));
            return listener.id;
        }
        self.handler.set(Some(id));
        self.add(id, false, callback);
        id
    }

    fn find(&self, id: ListenerId) -> Option<Rc<Listener<E>>> {
        self.list.borrow().iter().find(|listener| listener.id == id).cloned()
    }

    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        let mut list = self.list.borrow_mut();
        let Some(index) = list.iter().position(|listener| listener.id == id) else { return false };
        let listener = list.remove(index);
        listener.removed.set(true);
        if self.handler.get() == Some(id) {
            self.handler.set(None);
        }
        drop(list); // what the callback owns may come back here when it is dropped
        true
    }

    fn clear(&self) {
        let list = self.list.take();
        list.iter().for_each(|listener| listener.removed.set(true));
        self.handler.set(None);
    }

    /// Calls the listeners in order: the standard's
    /// [inner invoke](https://dom.spec.whatwg.org/#concept-event-listener-inner-invoke). One that is removed before its
    /// turn is not called, nor one that is added meanwhile, with a number from `end` on. A listener that is running
    /// already, since it dispatched this event itself, is passed over.
    pub(crate) fn call(&self, port: &PortHandle, event: &mut E, end: u64, mut report: impl FnMut(Box<dyn Any + Send>)) {
        let mut next = 0;
        while let Some(listener) = self.from(next).filter(|listener| listener.id.0 < end) {
            next = listener.id.0 + 1;
            let Some(mut callback) = listener.callback.take() else { continue };
            if listener.once {
                self.remove(listener.id);
            }
            let result = catch_unwind(AssertUnwindSafe(|| callback(port, event)));
            if !listener.removed.get() {
                // Back to its place, unless it has been replaced meanwhile.
                let newer = listener.callback.take();
                listener.callback.set(newer.or(Some(callback)));
            }
            if let Err(payload) = result {
                report(payload);
            }
            if event.flow().stopped {
                return;
            }
        }
    }

    /// The first listener with this number or a later one.
    fn from(&self, id: u64) -> Option<Rc<Listener<E>>> {
        let list = self.list.borrow();
        list.get(list.partition_point(|listener| listener.id.0 < id)).cloned()
    }
}

/// All listeners of a port.
pub(crate) struct AllListeners {
    pub(crate) message: Listeners<MessageEvent>,
    pub(crate) messageerror: Listeners<MessageErrorEvent>,
    pub(crate) close: Listeners<CloseEvent>,
    next: Cell<u64>,
}

impl AllListeners {
    pub(crate) fn new() -> Self {
        let (message, messageerror, close) = (Listeners::new(), Listeners::new(), Listeners::new());
        Self { message, messageerror, close, next: Cell::new(0) }
    }

    pub(crate) fn new_id(&self) -> ListenerId {
        ListenerId(self.next.replace(self.next.get() + 1))
    }

    /// Greater than every number so far.
    pub(crate) fn end(&self) -> u64 {
        self.next.get()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.message.is_empty() && self.messageerror.is_empty() && self.close.is_empty()
    }

    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        self.message.remove(id) || self.messageerror.remove(id) || self.close.remove(id)
    }

    pub(crate) fn clear(&self) {
        self.message.clear();
        self.messageerror.clear();
        self.close.clear();
    }
}
