//! A message as it arrives: its data, and what was transferred with it.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::shared::SharedBuffer;

/// A received message: the data, and what was on the transfer list, all owned. It can be kept, and sent to another thread.
///
/// `Port` is [`MessagePort`](crate::MessagePort) in every message that a user sees.
///
/// The fields are those of the standard's
/// [`MessageEvent`](https://html.spec.whatwg.org/multipage/comms.html#the-messageevent-interface) that apply between
/// processes, and one list for each kind of thing that can be transferred. A message without data has an empty `data`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Message<Port> {
    /// The data that was posted.
    pub data: Vec<u8>,
    /// The ports on the transfer list, in its order.
    pub ports: Vec<Port>,
    /// The buffers on the transfer list, in its order.
    pub buffers: Vec<TransferBuffer>,
    /// The frozen buffers on the transfer list, in its order.
    pub frozen: Vec<FrozenBuffer>,
    /// The shared buffers on the transfer list, in its order.
    pub shared: Vec<SharedBuffer>,
    /// The descriptors on the transfer list, in its order, closed on exec. A descriptor can be of any kind that the sender
    /// has: check it before use.
    pub descriptors: Vec<OwnedFd>,
}

impl<Port> Message<Port> {
    /// An empty message, to receive into.
    pub fn new() -> Self {
        Self::from(Vec::new())
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
        ports.clear();
        buffers.clear();
        frozen.clear();
        shared.clear();
        descriptors.clear();
    }

    /// Moves everything but the data of `arrived` to this message, which carries nothing yet; `to_port` makes the ports.
    pub(crate) fn take_transferred_of<Other>(&mut self, arrived: Message<Other>, to_port: impl FnMut(Other) -> Port) {
        let Message { data: _, ports, buffers, frozen, shared, descriptors } = arrived;
        self.ports.extend(ports.into_iter().map(to_port));
        (self.buffers, self.frozen, self.shared, self.descriptors) = (buffers, frozen, shared, descriptors);
    }
}

impl<Port> Default for Message<Port> {
    fn default() -> Self {
        Self::new()
    }
}

/// A message of data alone.
impl<Port> From<Vec<u8>> for Message<Port> {
    fn from(data: Vec<u8>) -> Self {
        Self {
            data,
            ports: Vec::new(),
            buffers: Vec::new(),
            frozen: Vec::new(),
            shared: Vec::new(),
            descriptors: Vec::new(),
        }
    }
}
