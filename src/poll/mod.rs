//! Waiting for many ports: which of them may have a message.

pub(crate) mod set;
pub(crate) mod poller;
#[cfg(test)]
mod poller_tests;
