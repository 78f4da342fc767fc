//! The operating system: the machine, pinned processes, descriptors over sockets, and what can be counted.

pub(crate) mod allocations;
pub(crate) mod descriptors;
pub(crate) mod machine;
pub(crate) mod role;
pub(crate) mod trace;
