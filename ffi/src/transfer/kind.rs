//! The kinds of transferable things, listed once. Everything in this layer that depends on the kind is in this file.

use std::os::fd::IntoRawFd;

use messageport::{Message, PostErrorKind, TransferBuffer, TransferRef, Transferable};

use super::item::{Item, ItemOf, open_descriptor};
use crate::buffer::{Buffer, Frozen, Shared};
use crate::code;
use crate::failure::Failure;
use crate::handle::{Handle, Object};
use crate::port::{NotMovable, Port, PortItem};

/// The kind of an item: `MSGPORT_ITEM_PORT` and so on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ItemKind {
    Port = 1,
    Buffer = 2,
    Frozen = 3,
    Shared = 4,
    Descriptor = 5,
}

impl ItemKind {
    const ALL: [Self; 5] = [Self::Port, Self::Buffer, Self::Frozen, Self::Shared, Self::Descriptor];

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// True if the thing leaves its handle when it is posted; the receiver gets a duplicate of the others.
    pub(crate) fn moves(self) -> bool {
        matches!(self, Self::Port | Self::Buffer)
    }

    /// `None` for a kind that the library has and this layer has not.
    pub(crate) fn of(thing: &Transferable) -> Option<Self> {
        match thing {
            Transferable::Port(_) => Some(Self::Port),
            Transferable::Buffer(_) => Some(Self::Buffer),
            Transferable::Frozen(_) => Some(Self::Frozen),
            Transferable::Shared(_) => Some(Self::Shared),
            Transferable::Descriptor(_) => Some(Self::Descriptor),
            _ => None,
        }
    }

    /// The number of things of this kind in a message.
    pub(crate) fn count_in(self, message: &Message) -> usize {
        match self {
            Self::Port => message.ports.len(),
            Self::Buffer => message.buffers.len(),
            Self::Frozen => message.frozen.len(),
            Self::Shared => message.shared.len(),
            Self::Descriptor => message.descriptors.len(),
        }
    }

    /// Takes the thing at `place` among those of this kind out of a message.
    pub(crate) fn take_from(self, message: &mut Message, place: usize) -> Option<Transferable> {
        (place < self.count_in(message)).then(|| match self {
            Self::Port => message.ports.remove(place).into(),
            Self::Buffer => message.buffers.remove(place).into(),
            Self::Frozen => message.frozen.remove(place).into(),
            Self::Shared => message.shared.remove(place).into(),
            Self::Descriptor => message.descriptors.remove(place).into(),
        })
    }

    /// Borrows the thing of an item of this kind.
    ///
    /// # Safety
    /// The handle in the item is NULL or live for `'a`, and nothing else uses it.
    pub(crate) unsafe fn lend<'a>(self, index: usize, item: &Item) -> Result<Lent<'a>, Failure> {
        Ok(Lent::Other(match self {
            Self::Port => {
                // SAFETY: a live handle or NULL that nothing else uses; the caller upholds it.
                let port = unsafe { Port::settled(item.handle()) }.map_err(|_| not_a_handle(index))?;
                return port.end().as_item().map(Lent::Port).map_err(|why| match why {
                    NotMovable::Half => Failure::bad_item(index, "a half of a port"),
                    NotMovable::InSet => Failure::bad_item(index, "a port in a set"),
                    NotMovable::InUse(failure) => failure,
                    NotMovable::Gone => PostErrorKind::Unusable { index }.into(),
                });
            }
            Self::Buffer => {
                // SAFETY: a live handle or NULL; the caller upholds it.
                let buffer = unsafe { shared_handle::<Buffer>(index, item) }?;
                TransferRef::Buffer(buffer.get().map_err(|_| PostErrorKind::Unusable { index })?)
            }
            // SAFETY: a live handle or NULL; the caller upholds it.
            Self::Frozen => TransferRef::Frozen(&unsafe { shared_handle::<Frozen>(index, item) }?.0),
            // SAFETY: a live handle or NULL; the caller upholds it.
            Self::Shared => TransferRef::Shared(&unsafe { shared_handle::<Shared>(index, item) }?.0),
            Self::Descriptor => TransferRef::Descriptor(open_descriptor(index, item.descriptor())?),
        }))
    }

    /// Moves the thing out of an item of this kind, or duplicates it if it does not move.
    ///
    /// # Safety
    /// As for [`lend`](Self::lend).
    pub(crate) unsafe fn take<'a>(self, index: usize, item: &Item) -> Result<(Place<'a>, Transferable), Failure> {
        Ok(match self {
            Self::Port => {
                // SAFETY: a live handle or NULL that nothing else uses; the caller upholds it.
                let port = unsafe { Port::exclusive(item.handle()) }.map_err(|failure| match failure.code() {
                    code::BORROWED => PostErrorKind::Unusable { index }.into(),
                    _ => not_a_handle(index),
                })?;
                let whole = port.take_whole().map_err(|failure| match failure.code() {
                    code::DETACHED => PostErrorKind::Unusable { index }.into(),
                    _ => Failure::bad_item(index, "a half of a port, or a port in an event loop or a set"),
                })?;
                (Place::Port(port), whole.into())
            }
            Self::Buffer => {
                // SAFETY: a live handle or NULL that nothing else uses; the caller upholds it.
                let place = unsafe { exclusive_handle::<Buffer>(index, item) }?.place();
                let buffer = place.take().ok_or(PostErrorKind::Unusable { index })?;
                (Place::Buffer(place), buffer.into())
            }
            // SAFETY: a live handle or NULL; the caller upholds it.
            Self::Frozen => (Place::Duplicate, unsafe { shared_handle::<Frozen>(index, item) }?.0.clone().into()),
            // SAFETY: a live handle or NULL; the caller upholds it.
            Self::Shared => (Place::Duplicate, unsafe { shared_handle::<Shared>(index, item) }?.0.clone().into()),
            Self::Descriptor => {
                let copy = open_descriptor(index, item.descriptor())?.try_clone_to_owned();
                (Place::Duplicate, copy.map_err(|error| Failure::exhausted(&error))?.into())
            }
        })
    }
}

impl From<Transferable> for Item {
    /// Gives the thing to C.
    fn from(thing: Transferable) -> Self {
        let kind = ItemKind::of(&thing).map_or(0, |kind| kind as u32);
        let of = match thing {
            Transferable::Port(port) => ItemOf { handle: Handle::give(Port::from(port)).cast() },
            Transferable::Buffer(buffer) => ItemOf { handle: Handle::give(Buffer::from(buffer)).cast() },
            Transferable::Frozen(frozen) => ItemOf { handle: Handle::give(Frozen(frozen)).cast() },
            Transferable::Shared(shared) => ItemOf { handle: Handle::give(Shared(shared)).cast() },
            Transferable::Descriptor(descriptor) => ItemOf { descriptor: descriptor.into_raw_fd() },
            _ => ItemOf { descriptor: -1 },
        };
        Self { kind, reserved: 0, of }
    }
}

/// # Safety
/// The handle in the item is NULL or live for `'a`, without a reference from [`exclusive_handle`].
unsafe fn shared_handle<'a, T: Object>(index: usize, item: &Item) -> Result<&'a T, Failure> {
    // SAFETY: the same conditions, which the caller upholds.
    unsafe { Handle::get(item.handle()) }.map_err(|_| not_a_handle(index))
}

/// # Safety
/// The handle in the item is NULL or live for `'a`, and there is no other reference to it.
unsafe fn exclusive_handle<'a, T: Object>(index: usize, item: &Item) -> Result<&'a mut T, Failure> {
    // SAFETY: the same conditions, which the caller upholds.
    unsafe { Handle::get_mut(item.handle()) }.map_err(|_| not_a_handle(index))
}

#[cold]
fn not_a_handle(index: usize) -> Failure {
    Failure::bad_item(index, "not a handle of this kind")
}

/// A borrowed thing on a list.
pub(crate) enum Lent<'a> {
    Port(PortItem<'a>),
    Other(TransferRef<'a>),
}

impl Lent<'_> {
    pub(crate) fn as_ref(&self) -> TransferRef<'_> {
        match self {
            Self::Port(port) => TransferRef::Port(port.port()),
            Self::Other(thing) => *thing,
        }
    }
}

/// The place to which a thing on a list returns if the call fails.
pub(crate) enum Place<'a> {
    Port(&'a mut Port),
    Buffer(&'a mut Option<TransferBuffer>),
    /// None: the list holds a duplicate.
    Duplicate,
}

impl Place<'_> {
    pub(crate) fn put_back(self, thing: Transferable) {
        match (self, thing) {
            (Place::Port(place), Transferable::Port(port)) => place.put_back(port),
            (Place::Buffer(place), Transferable::Buffer(buffer)) => *place = Some(buffer),
            _ => {}
        }
    }
}
