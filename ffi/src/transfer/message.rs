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
    /// The data. The things that came with it move to `things` at once, so that each can be taken out by its index.
    received: RustMessage,
    /// Kind by kind, each in the order of the transfer list.
    things: Vec<Slot>,
    /// True for the message that an event loop lends to handlers, which must not free it.
    is_lent: bool,
}

/// The place of a thing in a message.
struct Slot {
    kind: ItemKind,
    /// `None` once it has been taken out.
    thing: Option<Transferable>,
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
    /// Memory to receive into. Closes what came with the last message; the receiving call clears the data. After it has
    /// succeeded call [`unpack`](Self::unpack).
    #[inline]
    pub(crate) fn emptied(&mut self) -> &mut RustMessage {
        if !self.things.is_empty() {
            self.close_things();
        }
        &mut self.received
    }

    #[cold]
    fn close_things(&mut self) {
        self.things.clear();
    }

    /// Makes what came with the data ready to be taken out.
    #[inline]
    pub(crate) fn unpack(&mut self) {
        if self.received.has_transferred() {
            self.move_things();
        }
    }

    #[cold]
    fn move_things(&mut self) {
        let things = self.received.take_transfer_list().into_iter();
        let slots = things.filter_map(|thing| Some(Slot { kind: ItemKind::of(&thing)?, thing: Some(thing) }));
        self.things.extend(slots);
    }

    /// The reverse of [`unpack`](Self::unpack), without what has been taken out.
    fn pack(&mut self) {
        for thing in self.things.drain(..).filter_map(|slot| slot.thing) {
            self.received.push(thing);
        }
    }

    /// Replaces the contents by a message that was received by other means.
    pub(crate) fn fill(&mut self, message: RustMessage) {
        *self.emptied() = message;
        self.unpack();
    }

    /// Moves the contents out.
    pub(crate) fn empty(&mut self) -> RustMessage {
        self.pack();
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
        self.unpack();
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
        self.things.clear();
        std::mem::swap(&mut self.received, event);
        self.unpack();
    }

    /// After a handler: swaps back what it has left.
    pub(crate) fn swap_out(&mut self, event: &mut RustMessage) {
        self.pack();
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
        Ok(self.things.iter().filter(|slot| slot.kind == kind).count())
    }

    /// Takes out the thing with this index among those of its kind.
    pub(crate) fn take(&mut self, kind: u32, index: usize) -> Result<Transferable, Failure> {
        let count = self.count(kind)?;
        let kind = kind_of(kind)?;
        let slot = self.things.iter_mut().filter(|slot| slot.kind == kind).nth(index);
        slot.ok_or_else(|| Failure::out_of_range(index, count))?.thing.take().ok_or(Failure::plain(code::TAKEN))
    }
}

fn kind_of(number: u32) -> Result<ItemKind, Failure> {
    ItemKind::from_number(number).ok_or_else(|| Failure::bad_argument("unknown kind of item"))
}
