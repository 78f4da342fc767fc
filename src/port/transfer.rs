//! Transfer lists: the things that a message can carry.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::MessagePort;
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::shared::SharedBuffer;
use crate::capsule::{Arrived, Counts};
use crate::error::{PostErrorKind, Refusal};

/// A thing that a message can carry to its receiver, in a list that owns it.
#[derive(Debug)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant)] // a port is large, and lists are short
pub enum Transferable {
    /// A port, with everything queued in it.
    Port(MessagePort),
    /// A buffer, with its memory.
    Buffer(TransferBuffer),
    /// A frozen buffer. To keep a handle, post a clone.
    Frozen(FrozenBuffer),
    /// A shared buffer without a name. To keep a handle, post a clone.
    Shared(SharedBuffer),
    /// A descriptor of any kind: a file, a socket, a pipe, graphics memory. What its receiver should know about closing
    /// it is at [`Message::descriptors`](crate::Message::descriptors).
    Descriptor(OwnedFd),
}

impl From<Arrived> for Transferable {
    fn from(item: Arrived) -> Self {
        match item {
            Arrived::Port(parts) => Self::Port(MessagePort::from_parts(parts)),
            Arrived::Buffer(buffer) => Self::Buffer(buffer),
            Arrived::Frozen(buffer) => Self::Frozen(buffer),
            Arrived::Shared(buffer) => Self::Shared(buffer),
            Arrived::Descriptor(passed) => Self::Descriptor(passed.for_user()),
        }
    }
}

impl From<MessagePort> for Transferable {
    fn from(port: MessagePort) -> Self {
        Self::Port(port)
    }
}

impl From<TransferBuffer> for Transferable {
    fn from(buffer: TransferBuffer) -> Self {
        Self::Buffer(buffer)
    }
}

impl From<FrozenBuffer> for Transferable {
    fn from(buffer: FrozenBuffer) -> Self {
        Self::Frozen(buffer)
    }
}

impl From<SharedBuffer> for Transferable {
    fn from(buffer: SharedBuffer) -> Self {
        Self::Shared(buffer)
    }
}

impl From<OwnedFd> for Transferable {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

/// A thing that a message can carry, borrowed until the message is posted. The post detaches ports and buffers; the
/// other things stay usable.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TransferRef<'a> {
    /// A port, with everything queued in it.
    Port(&'a MessagePort),
    /// A buffer, with its memory.
    Buffer(&'a TransferBuffer),
    /// A frozen buffer: the receiver gets another handle.
    Frozen(&'a FrozenBuffer),
    /// A shared buffer without a name: the receiver gets another handle.
    Shared(&'a SharedBuffer),
    /// A descriptor of any kind: the receiver gets a duplicate, and the caller still closes its own.
    Descriptor(BorrowedFd<'a>),
}

impl<'a> From<&'a Transferable> for TransferRef<'a> {
    fn from(thing: &'a Transferable) -> Self {
        match thing {
            Transferable::Port(port) => Self::Port(port),
            Transferable::Buffer(buffer) => Self::Buffer(buffer),
            Transferable::Frozen(buffer) => Self::Frozen(buffer),
            Transferable::Shared(buffer) => Self::Shared(buffer),
            Transferable::Descriptor(descriptor) => Self::Descriptor(descriptor.as_fd()),
        }
    }
}

impl<'a> From<&'a MessagePort> for TransferRef<'a> {
    fn from(port: &'a MessagePort) -> Self {
        Self::Port(port)
    }
}

impl<'a> From<&'a TransferBuffer> for TransferRef<'a> {
    fn from(buffer: &'a TransferBuffer) -> Self {
        Self::Buffer(buffer)
    }
}

impl<'a> From<&'a FrozenBuffer> for TransferRef<'a> {
    fn from(buffer: &'a FrozenBuffer) -> Self {
        Self::Frozen(buffer)
    }
}

impl<'a> From<&'a SharedBuffer> for TransferRef<'a> {
    fn from(buffer: &'a SharedBuffer) -> Self {
        Self::Shared(buffer)
    }
}

impl<'a> From<BorrowedFd<'a>> for TransferRef<'a> {
    fn from(descriptor: BorrowedFd<'a>) -> Self {
        Self::Descriptor(descriptor)
    }
}

impl TransferRef<'_> {
    /// A number that no other handle on a list has: its address, or the number of a descriptor.
    pub(super) fn identity(self) -> usize {
        match self {
            Self::Port(port) => std::ptr::from_ref(port).addr(),
            Self::Buffer(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Frozen(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Shared(buffer) => std::ptr::from_ref(buffer).addr(),
            Self::Descriptor(descriptor) => descriptor.as_raw_fd() as usize, // far below any address
        }
    }
}

/// The number of things of each kind on a list.
pub(crate) fn count(list: &[TransferRef<'_>]) -> Counts {
    let mut counts = Counts::default();
    for thing in list {
        *match thing {
            TransferRef::Port(_) => &mut counts.ports,
            TransferRef::Buffer(_) => &mut counts.buffers,
            TransferRef::Frozen(_) => &mut counts.frozen,
            TransferRef::Shared(_) => &mut counts.shared,
            TransferRef::Descriptor(_) => &mut counts.descriptors,
        } += 1;
    }
    counts
}

/// [`post_message`](crate::MessagePort::post_message) failed: it gives back the transfer list, untouched and in order.
/// [`freeze`](crate::TransferBuffer::freeze) may copy a buffer of it.
pub type PostError = Refusal<PostErrorKind, Vec<Transferable>>;
