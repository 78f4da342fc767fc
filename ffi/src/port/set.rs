//! Sets of ports, and the membership of a port in one.
//!
//! The sending half of a port in a set belongs to the port's handle alone, so that a post shares nothing with the set
//! or with another port of it. The handle and the set share the receiving half.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

use messageport::{Home, Interrupter, MessagePort, PortId, PortSet, RecvHalf, SendHalf, SetEvent};

use super::PortHandle;
use super::end::End;
use crate::code;
use crate::failure::{Failure, watching};
use crate::handle::{Handle, Object};
use crate::input::Timeout;

/// `msgport_portset`.
pub type SetHandle = Handle<Set>;

pub struct Set(Arc<Shared>);

impl Object for Set {
    const NAME: &'static str = "set";
}

/// What a set shares with its ports.
struct Shared {
    /// Write-locked while the set uses the receiving halves of its ports, read-locked while a port uses its own. It is
    /// locked before `inner`.
    receiving: RwLock<()>,
    inner: Mutex<Inner>,
    /// The process that made the set.
    home: Home,
}

struct Inner {
    /// `None` once the handle of the set is freed.
    set: Option<PortSet<Watched>>,
    /// The handles of the ports in the set. A port whose handle is freed leaves the set first.
    handles: HashMap<PortId, Address>,
}

/// The address of a handle.
struct Address(*mut PortHandle);

// SAFETY: the address is returned to C and not followed.
unsafe impl Send for Address {}

/// A receiving half that the handle of a port shares with a set.
struct Half(RecvHalf);

// SAFETY: there is one user at a time. The set uses the half under the write lock of `Shared::receiving`. Otherwise a
// call on the port's handle does, which the caller of C uses exclusively: a receive or a close, under the read lock;
// adding, removing and freeing the port, under the lock of `Shared::inner`, which the set holds too while it receives.
unsafe impl Sync for Half {}

pub(crate) struct Watched(Arc<Half>);

impl AsRef<RecvHalf> for Watched {
    fn as_ref(&self) -> &RecvHalf {
        &self.0.0
    }
}

impl Shared {
    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Failure> {
        self.lock(|| self.inner.try_lock(), || self.inner.lock().map_err(Into::into))
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, ()>, Failure> {
        self.lock(|| self.receiving.try_read(), || self.receiving.read().map_err(Into::into))
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, ()>, Failure> {
        self.lock(|| self.receiving.try_write(), || self.receiving.write().map_err(Into::into))
    }

    /// Locks one of the locks. Fails in a forked child if a thread of the parent held the lock: it is never released.
    fn lock<G>(
        &self,
        at_once: impl FnOnce() -> Result<G, TryLockError<G>>,
        wait: impl FnOnce() -> Result<G, TryLockError<G>>,
    ) -> Result<G, Failure> {
        let result = match at_once() {
            Err(TryLockError::WouldBlock) if !self.home.is_here() => {
                return Err(Failure::plain(code::FORKED));
            }
            Err(TryLockError::WouldBlock) => wait(),
            result => result,
        };
        match result {
            Ok(guard) => Ok(guard),
            // A call has panicked. It returned `MSGPORT_INTERNAL`, after which the caller may only free the handles.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Failure::internal(&"a lock that waits would block")),
        }
    }
}

impl Set {
    pub(crate) fn new() -> Result<Self, Failure> {
        let set = PortSet::new().map_err(|error| watching(&error))?;
        let home = Home::here().map_err(|errno| Failure::exhausted(&errno.into()))?;
        let inner = Mutex::new(Inner { set: Some(set), handles: HashMap::new() });
        Ok(Self(Arc::new(Shared { receiving: RwLock::new(()), inner, home })))
    }

    /// Adds the end of a port with this handle. Returns the end that replaces it, and the result.
    pub(crate) fn add(&self, handle: *mut PortHandle, end: End) -> (End, Result<(), Failure>) {
        let (sender, half) = match end {
            End::Whole(port) => {
                let (sender, half) = port.split();
                (Some(sender), half)
            }
            End::Receiver(half) => (None, half),
            other => return other.refuse(),
        };
        let receiver = Arc::new(Half(half));
        match self.watch(handle, &receiver) {
            Ok(id) => {
                let place = Place { shared: Arc::clone(&self.0), id };
                (End::InSet(Member { place, sender, receiver }), Ok(()))
            }
            Err(failure) => (whole_again(sender, receiver), Err(failure)),
        }
    }

    fn watch(&self, handle: *mut PortHandle, receiver: &Arc<Half>) -> Result<PortId, Failure> {
        let mut inner = self.0.inner()?;
        let set = inner.set.as_mut().ok_or_else(|| Failure::internal(&"a set that was freed"))?;
        let id = set.add(Watched(Arc::clone(receiver))).map_err(|error| watching(&error.into()))?;
        inner.handles.insert(id, Address(handle));
        Ok(id)
    }

    /// Removes the end of a port. Returns the end that replaces it, and the result.
    pub(crate) fn remove(&self, end: End) -> (End, Result<(), Failure>) {
        match end {
            End::InSet(member) if Arc::ptr_eq(&member.place.shared, &self.0) => match member.place.leave() {
                Ok(Leave::Removed) => (member.into_end(), Ok(())),
                Ok(Leave::Closed) => (End::Gone, Err(Failure::plain(code::DETACHED))),
                Ok(Leave::Left) => (member.into_end(), Err(Failure::plain(code::NOT_FOUND))),
                Err(failure) => (End::InSet(member), Err(failure)),
            },
            other => (other, Err(Failure::plain(code::NOT_FOUND))),
        }
    }

    pub(crate) fn descriptor(&self) -> Result<RawFd, Failure> {
        if !self.0.home.is_here() {
            return Err(Failure::plain(code::FORKED));
        }
        let inner = self.0.inner()?;
        let set = inner.set.as_ref().ok_or_else(|| Failure::internal(&"a set that was freed"))?;
        Ok(set.as_fd().as_raw_fd())
    }

    /// An interrupter of the set's waits. Waits for one that is under way.
    pub(crate) fn interrupter(&self) -> Result<Interrupter, Failure> {
        let mut inner = self.0.inner()?;
        let set = inner.set.as_mut().ok_or_else(|| Failure::internal(&"a set that was freed"))?;
        set.interrupter().map_err(|error| watching(&error))
    }

    pub(crate) fn set_spin(&self, budget: Duration) -> Result<(), Failure> {
        if let Some(set) = &self.0.inner()?.set {
            set.set_spin(budget);
        }
        Ok(())
    }

    pub(crate) fn set_interrupt_on_signal(&self, ends: bool) -> Result<(), Failure> {
        if let Some(set) = &self.0.inner()?.set {
            set.set_interrupt_on_signal(ends);
        }
        Ok(())
    }

    /// The next event of any port, with the handle of the port. The handle of a port that leaves the set is forgotten.
    pub(crate) fn next(&self, timeout: Timeout) -> Result<(*mut PortHandle, SetEvent<Watched>), Failure> {
        let _receiving = self.0.write()?;
        let mut inner = self.0.inner()?;
        let Inner { set: Some(set), handles } = &mut *inner else {
            return Err(Failure::internal(&"a set that was freed"));
        };
        let (next, otherwise) = match timeout {
            Timeout::Forever => (set.wait(), code::NO_PORTS),
            Timeout::Poll => (set.try_wait(), code::EMPTY),
            Timeout::For(time) => (set.wait_timeout(time), code::TIMED_OUT),
        };
        let Some((id, event)) = next.map_err(|error| watching(&error))? else {
            let code = if set.is_empty() { code::NO_PORTS } else { otherwise };
            return Err(Failure::plain(code));
        };
        let handle = match &event {
            SetEvent::Closed(..) => handles.remove(&id).map(|handle| handle.0),
            _ => handles.get(&id).map(|handle| handle.0),
        };
        handle.map(|handle| (handle, event)).ok_or_else(|| Failure::internal(&"a port without a handle"))
    }
}

/// The ports leave the set and work without it.
impl Drop for Set {
    fn drop(&mut self) {
        let Ok(_receiving) = self.0.write() else { return };
        let Ok(mut inner) = self.0.inner() else { return };
        let Inner { set, handles } = &mut *inner;
        if let Some(mut set) = set.take() {
            for (id, _) in handles.drain() {
                set.remove(id);
            }
        }
    }
}

/// The membership of a port in a set. Dropping it removes the port and closes it.
///
/// The member stays in the handle after the set has dropped the port; see [`has_left`](Self::has_left).
pub(crate) struct Member {
    // The order matters: the port leaves the set first, and a sending half is dropped before the receiving half.
    place: Place,
    /// `None` for a port that was added as a receiving half.
    sender: Option<SendHalf>,
    receiver: Arc<Half>,
}

impl Member {
    /// The half that sends. It is independent of the set.
    pub(crate) fn sender(&self) -> Result<&SendHalf, Failure> {
        self.sender.as_ref().ok_or(Failure::plain(code::WRONG_HALF))
    }

    /// Calls `call` with the half that receives. Waits while the set uses it.
    pub(crate) fn with_receiver<R>(&self, call: impl FnOnce(&RecvHalf) -> R) -> Result<R, Failure> {
        let _receiving = self.place.shared.read()?;
        self.place.schedule()?;
        Ok(call(&self.receiver.0))
    }

    pub(crate) fn close(&self) -> Result<(), Failure> {
        if let Some(sender) = &self.sender {
            sender.close();
            if self.place.shared.receiving.try_read().is_err() {
                return Ok(()); // the set, which is receiving, finds the port closed
            }
        }
        self.with_receiver(RecvHalf::close) // drops what is queued
    }

    /// True once the set has dropped the port: after the event that the peer is gone, when the set is freed, or after
    /// it found the port closed.
    pub(crate) fn has_left(&self) -> bool {
        // A relaxed load: `whole_again` synchronizes with the drop of the set's reference.
        Arc::strong_count(&self.receiver) == 1
    }

    /// The end outside the set.
    pub(crate) fn into_end(self) -> End {
        let Self { place, sender, receiver } = self;
        drop(place);
        whole_again(sender, receiver)
    }
}

/// The end whose halves these are. `Gone` if the set still has the receiving half, which is so only in a forked child.
fn whole_again(sender: Option<SendHalf>, receiver: Arc<Half>) -> End {
    let Some(Half(half)) = Arc::into_inner(receiver) else { return End::Gone };
    match sender {
        None => End::Receiver(half),
        Some(sender) => MessagePort::join(sender, half).map_or(End::Gone, End::Whole),
    }
}

/// The place of a port in a set. Dropping it removes the port.
struct Place {
    shared: Arc<Shared>,
    id: PortId,
}

/// What a port that leaves a set finds.
enum Leave {
    /// It was in the set.
    Removed,
    /// The set had dropped it because it was closed.
    Closed,
    /// It had left the set before.
    Left,
}

impl Place {
    fn leave(&self) -> Result<Leave, Failure> {
        let mut inner = self.shared.inner()?;
        let is_known = inner.handles.remove(&self.id).is_some();
        let removed = inner.set.as_mut().and_then(|set| set.remove(self.id));
        Ok(match (removed, is_known) {
            (Some(_), _) => Leave::Removed,
            (None, true) => Leave::Closed,
            (None, false) => Leave::Left,
        })
    }

    /// Gives the port a turn: a receive may use up the wake-up that the set waits for.
    fn schedule(&self) -> Result<(), Failure> {
        if let Some(set) = &mut self.shared.inner()?.set {
            set.get(self.id);
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child it may fail, and the set keeps its reference.
        let _ = self.leave();
    }
}
