//! The operating system: CPUs and clocks, child processes, descriptor passing, counts of system calls and allocations.

pub(crate) mod allocations;
pub(crate) mod descriptors;
pub(crate) mod load;
pub(crate) mod machine;
pub(crate) mod role;
pub(crate) mod trace;
