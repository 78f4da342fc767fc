//! The message of a user, and its transfer list.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use super::MessagePort;
use super::transfer::{TransferRef, Transferable};
use crate::capsule::message;

/// A received message: `data`, `ports`, `buffers`, `frozen`, `shared` and `descriptors`, all owned.
pub type Message = message::Message<MessagePort>;

impl Message {
    /// Everything that came with the data, as a transfer list that [`post_message`](MessagePort::post_message) takes: to
    /// forward a message, post its data with this list.
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
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        let ports = ports.iter().map(TransferRef::Port);
        let buffers = buffers.iter().map(TransferRef::Buffer);
        let frozen = frozen.iter().map(TransferRef::Frozen);
        let shared = shared.iter().map(TransferRef::Shared);
        let descriptors = descriptors.iter().map(|descriptor| TransferRef::Descriptor(descriptor.as_fd()));
        ports.chain(buffers).chain(frozen).chain(shared).chain(descriptors).collect()
    }
}
