//! What of meeting is decoding.

#[path = "../../src/connect/greeting.rs"]
pub(crate) mod greeting;
