//! The library's wait over a lane of the models' own.

pub(crate) mod lane;
#[path = "../../../src/end/wait.rs"]
pub(crate) mod wait;
