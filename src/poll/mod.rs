//! Waiting for many ports: the poller finds the ports that may have a message, and `PortSet` receives from them.

pub(crate) mod set;
pub(crate) mod poller;
#[cfg(test)]
mod poller_tests;
