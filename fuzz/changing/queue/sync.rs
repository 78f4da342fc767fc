//! Words that change: the input of the run supplies the values that loads return.

use std::cell::{Cell, RefCell};
pub(crate) use std::sync::atomic::Ordering;

use messageport_fuzz::input::Input;

thread_local! {
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The number of the next record that a consumer accepts.
    static SEQUENCE: Cell<u64> = const { Cell::new(0) };
    /// The ring words that were stored to since `take_stored`: the capacity of the ring, and the offset in it.
    static STORED: RefCell<Vec<(u64, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Makes the next loads return values made of `bytes`, from the last byte on. Once they are used up, no word changes.
pub(crate) fn feed(bytes: &[u8]) {
    BYTES.with_borrow_mut(|left| {
        left.clear();
        left.extend_from_slice(bytes);
    });
}

/// Sets the number that most headers carry.
pub(crate) fn expect_sequence(sequence: u64) {
    SEQUENCE.set(sequence);
}

/// The offsets that were stored to since the last call, in a ring of this capacity.
pub(crate) fn take_stored(capacity: u64) -> Vec<u64> {
    let stored = STORED.take();
    stored.into_iter().filter(|(of, _)| *of == capacity).map(|(_, offset)| offset).collect()
}

fn byte() -> u8 {
    BYTES.with_borrow_mut(|bytes| bytes.pop().unwrap_or(0))
}

/// What a word of 8 bytes stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WordRole {
    /// Header or payload at an offset in a ring.
    Ring {
        capacity: u64,
        offset: u64,
    },
    ReadCursor,
}

pub(crate) struct AtomicU64 {
    value: Cell<u64>,
    role: WordRole,
}

impl AtomicU64 {
    pub(crate) fn new(role: WordRole) -> Self {
        Self { value: Cell::new(0), role }
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        let change = byte();
        if change >= 64 {
            self.value.set(match self.role {
                WordRole::Ring { .. } => header(change),
                WordRole::ReadCursor => cursor(change, self.value.get()),
            });
        }
        self.value.get()
    }

    pub(crate) fn store(&self, value: u64, _: Ordering) {
        if let WordRole::Ring { capacity, offset } = self.role {
            STORED.with_borrow_mut(|stored| stored.push((capacity, offset)));
        }
        self.value.set(value);
    }

    /// The value as it is. Unlike a load, this changes nothing.
    pub(crate) fn get(&self) -> u64 {
        self.value.get()
    }
}

/// A header that is nearly valid.
fn header(shape: u8) -> u64 {
    let kind = u64::from(shape & 7);
    let len = match shape >> 3 & 7 {
        0 | 1 => u64::from(byte()),
        2 => u64::from(byte()) * 8,
        3 => u64::from(byte()) * 16,
        4 => 4096 - 8 * u64::from(byte()),
        5 => u64::from(byte()) << 24 | u64::from(byte()),
        6 => 0,
        _ => return 0,
    };
    let extra = byte();
    let handles = if extra & 7 == 7 { u64::from(byte()) } else { u64::from(extra >> 3 & 1) };
    let off = u64::from(extra >= 250);
    len | kind << 32 | handles << 40 | (SEQUENCE.get().wrapping_add(off) & 0xFFFF) << 48
}

/// A cursor that is nearly valid.
fn cursor(shape: u8, before: u64) -> u64 {
    match shape & 7 {
        0..4 => before.wrapping_add(8 * u64::from(byte())),
        4 => before.wrapping_sub(8 * u64::from(byte())),
        5 => before.wrapping_add(u64::from(byte())),
        6 => before.wrapping_add(u64::from(byte()) << 6),
        _ => u64::from(byte()) << (8 * (byte() & 7)),
    }
}

pub(crate) struct AtomicU32(Cell<u32>);

impl AtomicU32 {
    pub(crate) fn new() -> Self {
        Self(Cell::new(0))
    }

    pub(crate) fn load(&self, _: Ordering) -> u32 {
        let change = byte();
        if change >= 128 {
            self.0.set(u32::from(change & 3));
        }
        self.0.get()
    }

    pub(crate) fn swap(&self, value: u32, _: Ordering) -> u32 {
        self.0.replace(value)
    }

    pub(crate) fn compare_exchange(&self, _: u32, _: u32, _: Ordering, _: Ordering) -> Result<u32, u32> {
        Ok(0)
    }
}

pub(crate) fn fence(_: Ordering) {}

pub(crate) fn store_and_fence(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::SeqCst);
}

pub(crate) mod futex {
    pub(crate) fn wake(_: &super::AtomicU32) {}
}

/// Splits the input of a run: the first half directs what the side does, the second half is for [`feed`].
pub(crate) fn split_input(bytes: &[u8]) -> (Input<'_>, &[u8]) {
    let (operations, loads) = bytes.split_at(bytes.len() / 2);
    (Input::new(operations), loads)
}
