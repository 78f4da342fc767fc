//! The limits: what the machine itself takes for what a port does, with nothing around it.

pub(crate) mod futex_word;
pub(crate) mod memcpy;
mod shared;
pub(crate) mod slot_ring;
pub(crate) mod spin_word;
pub(crate) mod syscalls;

pub(crate) use shared::with_size;
