//! The queue between two ends: a ring of records in a segment, and the doorbells that wake its sleepers.

pub(crate) mod ring;
#[cfg(test)]
mod ring_tests;
pub(crate) mod backlog;
pub(crate) mod record;
pub(crate) mod direction;
pub(crate) mod doorbell;
pub(crate) mod sync;
pub(crate) mod segment;
