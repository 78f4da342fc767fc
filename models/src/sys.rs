//! The answers of the system that `end/wait.rs` needs.

pub(crate) mod cpu {
    /// False: a thread never spins, since loom runs every order anyway.
    pub(crate) fn may_spin() -> bool {
        false
    }

    pub(crate) fn forget_affinity() {}

    pub(crate) fn preemptions() -> u64 {
        0
    }
}
