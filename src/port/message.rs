//! A received message, and its transfer list.
#![forbid(unsafe_code)]

use std::collections::TryReserveError;
use std::os::fd::{AsFd, OwnedFd};

use super::MessagePort;
use super::transfer::{TransferRef, Transferable};
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::shared::SharedBuffer;
use crate::capsule::Counts;
use crate::capsule::discard::{refusing, sharing};
use crate::sys::closer;

/// A received message: the data, and what was on the transfer list, all owned. It can be kept, and sent to another
/// thread.
///
/// The fields are those of the standard's
/// [`MessageEvent`](https://html.spec.whatwg.org/multipage/comms.html#the-messageevent-interface) that apply between
/// processes, and one list for each kind of thing that can be transferred. A message without data has an empty `data`.
#[derive(Default, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The data that was posted.
    pub data: Vec<u8>,
    /// The ports on the transfer list, in its order.
    pub ports: Vec<MessagePort>,
    /// The buffers on the transfer list, in its order.
    pub buffers: Vec<TransferBuffer>,
    /// The frozen buffers on the transfer list, in its order.
    pub frozen: Vec<FrozenBuffer>,
    /// The shared buffers on the transfer list, in its order.
    pub shared: Vec<SharedBuffer>,
    /// The descriptors on the transfer list, in its order, closed on exec. A descriptor can be of any kind that the
    /// sender has: check it before use. Closing it can take as long as the sender likes, if it is a socket that lingers
    /// for example. Closing any descriptor of a file releases all locks that this process holds on the file by
    /// `F_SETLK` of fcntl(2); locks of open file descriptions (`F_OFD_SETLK`) and of flock(2) stay.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// An empty message, to receive into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties the message and keeps its memory. Ports and descriptors in it are closed, buffers freed.
    #[inline]
    pub fn clear(&mut self) {
        self.data.clear();
        if self.has_transferred() {
            self.drop_transferred();
        }
    }

    /// True if the message carries anything beside its data.
    #[inline]
    pub fn has_transferred(&self) -> bool {
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        ports.len() + buffers.len() + frozen.len() + shared.len() + descriptors.len() > 0
    }

    #[cold]
    fn drop_transferred(&mut self) {
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        sharing(|| ports.clear());
        buffers.clear();
        frozen.clear();
        shared.clear();
        descriptors.clear();
    }

    /// Empties a message that its receiver cannot use, within a call that may have a deadline. Closing its descriptors
    /// can take long, so no caller waits for that.
    pub(crate) fn refuse(&mut self) {
        if !self.descriptors.is_empty() {
            let descriptors = std::mem::take(&mut self.descriptors);
            closer::elsewhere(move || drop(descriptors));
        }
        refusing(|| self.clear());
    }

    /// Adds a thing to the list of its kind.
    pub fn push(&mut self, item: Transferable) {
        match item {
            Transferable::Port(port) => self.ports.push(port),
            Transferable::Buffer(buffer) => self.buffers.push(buffer),
            Transferable::Frozen(buffer) => self.frozen.push(buffer),
            Transferable::Shared(buffer) => self.shared.push(buffer),
            Transferable::Descriptor(descriptor) => self.descriptors.push(descriptor),
        }
    }

    /// Makes room for the things of a received table.
    pub(crate) fn try_reserve(&mut self, counts: Counts) -> Result<(), TryReserveError> {
        let Counts { ports, buffers, frozen, shared, descriptors, slots: _, body: _, copied: _ } = counts;
        self.ports.try_reserve(ports)?;
        self.buffers.try_reserve(buffers)?;
        self.frozen.try_reserve(frozen)?;
        self.shared.try_reserve(shared)?;
        self.descriptors.try_reserve(descriptors)
    }

    /// Everything that came with the data, as a transfer list that [`post_message`](MessagePort::post_message) takes:
    /// to forward a message, post its data with this list.
    ///
    /// ```
    /// # use messageport::{MessageChannel, SharedBuffer};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (here, there) = (MessageChannel::new()?, MessageChannel::new()?);
    /// # here.port1.post_message(b"all of it", [SharedBuffer::new(8)?.into()])?;
    /// let mut message = here.port2.recv()?;
    /// let list = message.take_transfer_list();
    /// there.port1.post_message(&message.data, list)?;
    /// # assert_eq!(there.port2.recv()?.shared.len(), 1);
    /// # Ok(()) }
    /// ```
    pub fn take_transfer_list(&mut self) -> Vec<Transferable> {
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        let ports = ports.drain(..).map(Transferable::Port);
        let buffers = buffers.drain(..).map(Transferable::Buffer);
        let frozen = frozen.drain(..).map(Transferable::Frozen);
        let shared = shared.drain(..).map(Transferable::Shared);
        let descriptors = descriptors.drain(..).map(Transferable::Descriptor);
        ports.chain(buffers).chain(frozen).chain(shared).chain(descriptors).collect()
    }

    /// As [`take_transfer_list`](Self::take_transfer_list), borrowed: for
    /// [`post_message_detaching`](MessagePort::post_message_detaching).
    pub fn transfer_list(&self) -> Vec<TransferRef<'_>> {
        self.lent().collect()
    }

    /// Everything that came with the data, borrowed.
    pub(crate) fn lent(&self) -> impl Iterator<Item = TransferRef<'_>> {
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        let ports = ports.iter().map(TransferRef::Port);
        let buffers = buffers.iter().map(TransferRef::Buffer);
        let frozen = frozen.iter().map(TransferRef::Frozen);
        let shared = shared.iter().map(TransferRef::Shared);
        let descriptors = descriptors.iter().map(|descriptor| TransferRef::Descriptor(descriptor.as_fd()));
        ports.chain(buffers).chain(frozen).chain(shared).chain(descriptors)
    }
}

/// A message of data alone.
impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self { data, ..Self::default() }
    }
}

/// Adds things, each to the list of its kind.
impl Extend<Transferable> for Message {
    fn extend<List: IntoIterator<Item = Transferable>>(&mut self, list: List) {
        list.into_iter().for_each(|item| self.push(item));
    }
}
