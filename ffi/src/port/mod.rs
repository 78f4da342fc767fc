//! The handle of a port: the port or one half of it, with its open reservation and message.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use messageport::{HandlerId, MessagePort, MessageRef, RecvHalf, Reservation};

use crate::code;
use crate::failure::Failure;
use crate::handle::{Handle, Object};

mod end;
mod set;
mod claim;

pub(crate) use self::claim::Claims;
pub(crate) use self::end::{End, NotMovable, PortItem};
pub(crate) use self::set::Set;
pub use self::set::SetHandle;

/// `msgport_port`.
pub type PortHandle = Handle<Port>;

/// The handlers of a port in an event loop. The index of a handler is its number in C.
pub(crate) type Handlers = Rc<RefCell<Vec<Option<HandlerId>>>>;

pub struct Port {
    /// The open reservation. `'static` stands for the lifetime of `end`, which it borrows: it is declared, and so
    /// dropped, before `end`, and [`exclusive`](Self::exclusive) fails while it is open.
    reservation: Cell<Option<Reservation<'static>>>,
    /// The message that is being read in place, under the conditions of `reservation`.
    in_place: Cell<Option<MessageRef<'static>>>,
    end: End,
    /// Empty unless the port is in an event loop.
    handlers: Handlers,
}

impl Object for Port {
    const NAME: &'static str = "port";
}

impl From<MessagePort> for Port {
    fn from(port: MessagePort) -> Self {
        Self::of(End::Whole(port))
    }
}

impl Port {
    fn of(end: End) -> Self {
        Self { reservation: Cell::new(None), in_place: Cell::new(None), end, handlers: Handlers::default() }
    }

    #[inline]
    pub(crate) fn end(&self) -> &End {
        &self.end
    }

    pub(crate) fn handlers(&self) -> &Handlers {
        &self.handlers
    }

    /// For a port that leaves its loop.
    pub(crate) fn forget_handlers(&mut self) {
        self.handlers = Handlers::default();
    }

    /// The place of the reservation.
    #[inline]
    pub(crate) fn reservation(&self) -> &Cell<Option<Reservation<'static>>> {
        &self.reservation
    }

    /// The place of the message that is being read in place.
    #[inline]
    pub(crate) fn in_place(&self) -> &Cell<Option<MessageRef<'static>>> {
        &self.in_place
    }

    /// Before the handle is freed: ends the reservation and the message, and takes the port out of its loop, so that no
    /// handler is called for it any more.
    pub(crate) fn release(&self) {
        self.reservation.take();
        self.in_place.take();
        // The caller has the claim.
        if let End::InLoop { port, half, .. } = &self.end
            && let Some(events) = port.event_loop()
        {
            // Not a close, after which the loop would still dispatch what is queued.
            if *half { drop(events.remove_half(port)) } else { drop(events.remove(port)) }
        }
    }

    /// The port behind a pointer of C, for a call that a port in a set does not have: a port that has left its set is
    /// an ordinary port again.
    ///
    /// # Safety
    /// The pointer is NULL or leads to a handle of any type that lives for `'a`, in exclusive use. Other references to
    /// it come from this function.
    pub(crate) unsafe fn settled<'a>(port: *mut PortHandle) -> Result<&'a Self, Failure> {
        // SAFETY: NULL or a live handle; the caller upholds it.
        if unsafe { Handle::get(port) }?.has_left_set() {
            // SAFETY: a live handle. There is no reference to it yet: a port that this function returned is settled. A
            // port in a set has no reservation and no message in place, so nothing borrows its end.
            unsafe { Handle::get_mut(port) }?.settle();
        }
        // SAFETY: as before.
        unsafe { Handle::get(port) }
    }

    /// The port behind a pointer of C, for a call that changes the port. Fails while a reservation or a message is
    /// open: both borrow the end inside the handle, to which an exclusive reference would then be the second way.
    ///
    /// # Safety
    /// As for [`settled`](Self::settled), and no other reference to the handle exists during `'a`.
    pub(crate) unsafe fn exclusive<'a>(port: *mut PortHandle) -> Result<&'a mut Self, Failure> {
        // SAFETY: NULL or a live handle; the caller upholds it.
        if unsafe { Handle::<Self>::get(port) }?.is_borrowed() {
            return Err(Failure::plain(code::BORROWED));
        }
        // SAFETY: a live handle without another reference; the caller upholds it. Nothing borrows the end, as was just
        // checked; and nothing can while the result lives, since that takes a reference to the handle.
        unsafe { Handle::get_mut(port) }
    }

    /// True while a reservation or a message that is read in place is open.
    fn is_borrowed(&self) -> bool {
        fn is_open<T>(place: &Cell<Option<T>>) -> bool {
            let content = place.take();
            let open = content.is_some();
            place.set(content);
            open
        }
        is_open(&self.reservation) || is_open(&self.in_place)
    }

    fn has_left_set(&self) -> bool {
        matches!(&self.end, End::InSet(member) if member.has_left())
    }

    fn settle(&mut self) {
        self.end = match std::mem::replace(&mut self.end, End::Gone) {
            End::InSet(member) if member.has_left() => member.into_end(),
            other => other,
        };
    }

    /// Replaces the end by the result of `make`, which gets the end of an ordinary port for a port that has left its
    /// set.
    pub(crate) fn replace_end<T>(&mut self, make: impl FnOnce(End) -> (End, Result<T, Failure>)) -> Result<T, Failure> {
        self.settle();
        self.replace_member(make)
    }

    /// As [`replace_end`](Self::replace_end), for a port whose set is to find out itself that it has left.
    pub(crate) fn replace_member<T>(
        &mut self,
        make: impl FnOnce(End) -> (End, Result<T, Failure>),
    ) -> Result<T, Failure> {
        let (made, result) = make(std::mem::replace(&mut self.end, End::Gone));
        self.end = made;
        result
    }

    /// Moves the whole port out, for good or until [`put_back`](Self::put_back).
    pub(crate) fn take_whole(&mut self) -> Result<MessagePort, Failure> {
        self.replace_end(|end| match end {
            End::Whole(port) => (End::Gone, Ok(port)),
            other => other.refuse(),
        })
    }

    pub(crate) fn put_back(&mut self, port: MessagePort) {
        self.end = End::Whole(port);
    }

    /// Becomes the sending half, and returns the receiving half.
    pub(crate) fn split(&mut self) -> Result<Self, Failure> {
        let (send, recv) = self.take_whole()?.split();
        self.end = End::Sender(send);
        Ok(Self::of(End::Receiver(recv)))
    }

    /// Replaces the channel of the port, which must be whole, by a new one.
    pub(crate) fn renew(&mut self) -> Result<(), Failure> {
        self.replace_end(|end| match end {
            End::Whole(port) => match port.renew() {
                Ok(renewed) => (End::Whole(renewed), Ok(())),
                Err(error) => {
                    let (kind, port) = error.into_parts();
                    (End::Whole(port), Err(kind.into()))
                }
            },
            other => other.refuse(),
        })
    }

    /// Becomes the whole port, if `self` is its sending half and `receiver` its receiving half.
    pub(crate) fn join(&mut self, receiver: &mut Self) -> Result<(), Failure> {
        let half = receiver.take_receiver()?;
        let mut rest = None;
        let result = self.replace_end(|end| match end {
            End::Sender(sender) => match MessagePort::join(sender, half) {
                Ok(whole) => (End::Whole(whole), Ok(())),
                Err(error) => {
                    let (sender, half) = error.into_inner();
                    rest = Some(half);
                    (End::Sender(sender), Err(Failure::plain(code::DIFFERENT_PORTS)))
                }
            },
            other => {
                rest = Some(half);
                other.refuse()
            }
        });
        if let Some(half) = rest {
            receiver.end = End::Receiver(half);
        }
        result
    }

    fn take_receiver(&mut self) -> Result<RecvHalf, Failure> {
        self.replace_end(|end| match end {
            End::Receiver(half) => (End::Gone, Ok(half)),
            other => other.refuse(),
        })
    }
}
