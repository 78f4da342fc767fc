//! The limits of the machine: the least code that does what a port does, without its checks and guarantees.

pub(crate) mod futex_word;
pub(crate) mod memcpy;
mod shared;
pub(crate) mod slot_ring;
pub(crate) mod spin_word;
pub(crate) mod syscalls;

pub(crate) use shared::with_size;
