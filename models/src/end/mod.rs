//! The library's wait over the models' own lane.

#[path = "../../../src/end/wait.rs"]
pub(crate) mod wait;
#[path = "../../../src/end/spurious.rs"]
mod spurious;
pub(crate) mod interrupt;
pub(crate) mod lane;
