//! Sets of ports, and the membership of a port in one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use messageport::{AddError, MessagePort, PortId, PortSet, RecvHalf, SetEvent};

use super::PortHandle;
use super::end::End;
use crate::code;
use crate::failure::{Failure, watching};
use crate::handle::{Handle, Object};
use crate::input::Timeout;

/// `msgport_portset`.
pub type SetHandle = Handle<Set>;

pub struct Set(Rc<RefCell<Inner>>);

impl Object for Set {
    const NAME: &'static str = "set";
}

struct Inner {
    set: PortSet<Watched>,
    /// The handles of the ports in the set. A port whose handle is freed leaves the set first.
    handles: HashMap<PortId, *mut PortHandle>,
}

/// A port in a set.
pub(crate) enum Watched {
    Whole(MessagePort),
    Half(RecvHalf),
}

impl AsRef<RecvHalf> for Watched {
    fn as_ref(&self) -> &RecvHalf {
        match self {
            Self::Whole(port) => port.as_ref(),
            Self::Half(half) => half,
        }
    }
}

impl From<Watched> for End {
    fn from(watched: Watched) -> Self {
        match watched {
            Watched::Whole(port) => Self::Whole(port),
            Watched::Half(half) => Self::Receiver(half),
        }
    }
}

impl Set {
    pub(crate) fn new() -> Result<Self, Failure> {
        let set = PortSet::new().map_err(|error| watching(&error))?;
        Ok(Self(Rc::new(RefCell::new(Inner { set, handles: HashMap::new() }))))
    }

    /// Adds the end of a port with this handle. Returns the end that replaces it, and the result.
    pub(crate) fn add(&self, handle: *mut PortHandle, end: End) -> (End, Result<(), Failure>) {
        let watched = match end {
            End::Whole(port) => Watched::Whole(port),
            End::Receiver(half) => Watched::Half(half),
            other => return other.refuse(),
        };
        let mut inner = self.0.borrow_mut();
        match inner.set.add(watched) {
            Ok(id) => {
                inner.handles.insert(id, handle);
                (End::InSet(Member { inner: Rc::clone(&self.0), id }), Ok(()))
            }
            Err(AddError { error, port }) => (port.into(), Err(watching(&error))),
        }
    }

    /// Removes the end of a port. Returns the end that replaces it, and the result.
    pub(crate) fn remove(&self, end: End) -> (End, Result<(), Failure>) {
        match end {
            End::InSet(member) if Rc::ptr_eq(&member.inner, &self.0) => match member.take() {
                Some(watched) => (watched.into(), Ok(())),
                None => (End::Gone, Err(Failure::plain(code::DETACHED))),
            },
            other => (other, Err(Failure::plain(code::NOT_FOUND))),
        }
    }

    /// The next event of any port, with the handle of the port. The handle of a port that leaves the set is forgotten.
    pub(crate) fn next(&self, timeout: Timeout) -> Result<(*mut PortHandle, SetEvent<Watched>), Failure> {
        let mut inner = self.0.borrow_mut();
        let (next, otherwise) = match timeout {
            Timeout::Forever => (inner.set.wait(), code::NO_PORTS),
            Timeout::Poll => (inner.set.try_wait(), code::EMPTY),
            Timeout::For(time) => (inner.set.wait_timeout(time), code::TIMED_OUT),
        };
        let Some((id, event)) = next.map_err(|error| watching(&error))? else {
            let code = if inner.set.is_empty() { code::NO_PORTS } else { otherwise };
            return Err(Failure::plain(code));
        };
        let handle = match &event {
            SetEvent::Closed(..) => inner.handles.remove(&id),
            _ => inner.handles.get(&id).copied(),
        };
        handle.map(|handle| (handle, event)).ok_or_else(|| Failure::internal(&"a port without a handle"))
    }

    /// Removes any port, which keeps working without the set. `None`: there is none left.
    pub(crate) fn remove_any(&self) -> Option<(*mut PortHandle, End)> {
        let mut inner = self.0.borrow_mut();
        loop {
            let id = *inner.handles.keys().next()?;
            let handle = inner.handles.remove(&id)?;
            if let Some(watched) = inner.set.remove(id) {
                return Some((handle, watched.into()));
            }
        }
    }
}

/// The membership of a port in a set. Dropping it removes the port and closes it.
pub(crate) struct Member {
    inner: Rc<RefCell<Inner>>,
    id: PortId,
}

impl Member {
    pub(crate) fn with_whole<R>(&self, call: impl FnOnce(&MessagePort) -> R) -> Result<R, Failure> {
        match self.inner.borrow_mut().set.get(self.id) {
            Some(Watched::Whole(port)) => Ok(call(port)),
            Some(Watched::Half(_)) => Err(Failure::plain(code::WRONG_HALF)),
            None => Err(Failure::plain(code::DETACHED)),
        }
    }

    pub(crate) fn with_receiver<R>(&self, call: impl FnOnce(&RecvHalf) -> R) -> Result<R, Failure> {
        let mut inner = self.inner.borrow_mut();
        let watched = inner.set.get(self.id).ok_or(Failure::plain(code::DETACHED))?;
        Ok(call(watched.as_ref()))
    }

    fn take(&self) -> Option<Watched> {
        let mut inner = self.inner.borrow_mut();
        inner.handles.remove(&self.id);
        inner.set.remove(self.id)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.take());
    }
}
