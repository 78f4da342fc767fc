//! A received message.

use std::os::fd::OwnedFd;

use super::MessagePort;
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::shared::SharedBuffer;
use crate::capsule::Things;

/// A message as it was received: data, and what was on the transfer list, all owned. It can be kept as long as you
/// like and sent to another thread.
///
/// The fields are those of the standard's
/// [`MessageEvent`](https://html.spec.whatwg.org/multipage/comms.html#the-messageevent-interface) that mean something
/// here. A message without data has an empty `data`; that there is a message at all says the call that returned it.
#[derive(Default, Debug)]
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
    /// The descriptors on the transfer list, in its order, closed on exec. They can be anything that the sender has:
    /// what one is good for is to be found out before it is used.
    pub descriptors: Vec<OwnedFd>,
}

impl Message {
    /// An empty message, to receive into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps its memory. Ports and descriptors in it are closed, buffers freed.
    #[inline]
    pub fn clear(&mut self) {
        self.data.clear();
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        // Mostly empty: a look each instead of loops that drop.
        if ports.len() + buffers.len() + frozen.len() + shared.len() + descriptors.len() > 0 {
            self.drop_things();
        }
    }

    #[cold]
    fn drop_things(&mut self) {
        let Self { data: _, ports, buffers, frozen, shared, descriptors } = self;
        ports.clear();
        buffers.clear();
        frozen.clear();
        shared.clear();
        descriptors.clear();
    }

    /// Puts in what came with the data.
    pub(crate) fn unpack(&mut self, things: Things) {
        let Things { ports, buffers, body, frozen, shared, descriptors } = things;
        if let Some(body) = body {
            body.append_to(&mut self.data);
        }
        self.ports.extend(ports.into_iter().map(MessagePort::from_parts));
        (self.buffers, self.frozen, self.shared, self.descriptors) = (buffers, frozen, shared, descriptors);
    }
}
