//! The library's queue over memory that changes: `direction` and `sync` are this target's own.

pub(crate) mod direction;
#[path = "../../../../src/queue/doorbell.rs"]
pub(crate) mod doorbell;
#[path = "../../../../src/queue/record.rs"]
pub(crate) mod record;
#[path = "../../../../src/queue/ring.rs"]
pub(crate) mod ring;
pub(crate) mod sync;
