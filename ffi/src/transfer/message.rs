//! Messages: memory to receive into, and the things that came with the data.

use std::ffi::c_void;

use messageport::{Message as RustMessage, MessageRef, Transferable};

use super::kind::ItemKind;
use crate::code;
use crate::failure::Failure;
use crate::handle::{Handle, Object};

/// `msgport_message`.
pub type MessageHandle = Handle<Message>;

#[derive(Default)]
pub struct Message {
    /// The data, and the things that came with it and have not been taken out.
    received: RustMessage,
    /// The things that have been taken out: their kinds, and their indices among those of the kind.
    taken: Vec<(ItemKind, u32)>,
    /// True for the message that an event loop lends to handlers, which must not free it.
    is_lent: bool,
}

impl Object for Message {
    const NAME: &'static str = "message";
}

/// The address of some bytes for C: never NULL, and none that must not be read, if there are none.
#[inline]
pub(crate) fn address_of(bytes: &[u8]) -> *const c_void {
    if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr().cast() }
}

impl Message {
    /// Memory to receive into. Closes what came with the last message; the receiving call clears the data.
    #[inline]
    pub(crate) fn emptied(&mut self) -> &mut RustMessage {
        self.taken.clear();
        if self.received.has_transferred() {
            self.received.clear();
        }
        &mut self.received
    }

    /// As [`emptied`](Self::emptied), if there is nothing to close.
    #[inline]
    pub(crate) fn plain(&mut self) -> Option<&mut RustMessage> {
        (self.taken.is_empty() && !self.received.has_transferred()).then_some(&mut self.received)
    }

    /// Replaces the contents by a message that was received by other means.
    pub(crate) fn fill(&mut self, message: RustMessage) {
        *self.emptied() = message;
    }

    /// Moves the contents out.
    pub(crate) fn empty(&mut self) -> RustMessage {
        self.taken.clear();
        std::mem::take(&mut self.received)
    }

    /// Drops the contents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.emptied().clear();
    }

    /// Takes what came with a message that is read in place.
    pub(crate) fn take_things_of(&mut self, message: &mut MessageRef<'_>) {
        self.clear();
        self.received = message.take_transferred();
    }

    /// A message for an event loop to lend to its handlers.
    pub(crate) fn for_handlers() -> Self {
        Self { is_lent: true, ..Self::default() }
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// Before a handler: swaps the message of an event in.
    pub(crate) fn swap_in(&mut self, event: &mut RustMessage) {
        self.taken.clear();
        std::mem::swap(&mut self.received, event);
    }

    /// After a handler: swaps back what it has left.
    pub(crate) fn swap_out(&mut self, event: &mut RustMessage) {
        self.taken.clear();
        std::mem::swap(&mut self.received, event);
    }

    /// The data, as C sees it: never NULL.
    #[inline]
    pub(crate) fn data(&self) -> (*const c_void, usize) {
        (address_of(&self.received.data), self.received.data.len())
    }

    /// The number of things of a kind that came with the data, those that were taken out included.
    pub(crate) fn count(&self, kind: u32) -> Result<usize, Failure> {
        let kind = kind_of(kind)?;
        Ok(kind.count_in(&self.received) + self.taken_of(kind).count())
    }

    /// Takes out the thing with this index among those of its kind.
    pub(crate) fn take(&mut self, kind: u32, index: usize) -> Result<Transferable, Failure> {
        let count = self.count(kind)?;
        let kind = kind_of(kind)?;
        if self.taken_of(kind).any(|taken| taken == index) {
            return Err(Failure::plain(code::TAKEN));
        }
        let place = index - self.taken_of(kind).filter(|taken| *taken < index).count();
        let thing = kind.take_from(&mut self.received, place).ok_or_else(|| Failure::out_of_range(index, count))?;
        self.taken.push((kind, index as u32));
        Ok(thing)
    }

    /// The indices of the things of a kind that have been taken out.
    fn taken_of(&self, kind: ItemKind) -> impl Iterator<Item = usize> {
        self.taken.iter().filter(move |(of, _)| *of == kind).map(|(_, index)| *index as usize)
    }
}

fn kind_of(number: u32) -> Result<ItemKind, Failure> {
    ItemKind::from_number(number).ok_or_else(|| Failure::bad_argument("unknown kind of item"))
}
