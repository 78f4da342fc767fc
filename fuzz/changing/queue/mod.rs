//! The library's queue over memory that changes. `direction` and `sync` are this target's own.

#[path = "../../../src/queue/backlog.rs"]
pub(crate) mod backlog;
#[path = "../../../src/queue/ring.rs"]
pub(crate) mod ring;
#[path = "../../../src/queue/record.rs"]
pub(crate) mod record;
pub(crate) mod direction;
#[path = "../../../src/queue/doorbell.rs"]
pub(crate) mod doorbell;
pub(crate) mod sync;
