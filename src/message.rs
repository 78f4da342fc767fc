//! A received message.

use crate::buffer::TransferBuffer;
use crate::port::MessagePort;

/// A message as it was received: data, ports and buffers, all owned. It can be kept as long as you like and sent to
/// another thread.
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
}

impl Message {
    /// An empty message, to receive into.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps the memory of `data`. Ports in it are closed, buffers freed.
    #[inline]
    pub fn clear(&mut self) {
        self.data.clear();
        // Mostly empty: one look each instead of a loop that drops.
        if !self.ports.is_empty() {
            self.ports.clear();
        }
        if !self.buffers.is_empty() {
            self.buffers.clear();
        }
    }
}
