//! The faults of the controls. The library's files stay as they are: what is broken is what they are written with.

use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Headers are stored relaxed.
    CommitNotReleased,
    /// The read cursor is stored relaxed, with a fence behind an announcement as before.
    CursorNotReleased,
    /// A commit has no fence behind it.
    NoFenceAfterCommit,
    /// An announcement has no fence behind it.
    NoFenceAfterAnnouncement,
    /// The sleeper does not put a fence between its note and its last look.
    NoFenceInSleeper,
    /// One that closes does not put a fence between the states and the doorbells.
    NoFenceInClose,
    /// The header behind a record is not zeroed.
    NextHeaderNotZeroed,
    /// A note is taken by a load and a store instead of a swap.
    NoteNotSwapped,
    /// The note of a sleeper that could not be woken is not put back.
    NoteNotPutBack,
    /// The header is committed before the payload is copied in.
    CommitBeforeCopy,
    /// A record is released before its payload is copied out.
    ReleaseBeforeCopy,
    /// The lane is drained after the doorbell was armed for it.
    DrainAfterArm,
    /// One that closes does not ring its own doorbells.
    OwnHalvesNotRung,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it, and every test has a thread of its own.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// Breaks the models that this thread runs from now on.
pub(crate) fn inject(fault: Fault) {
    FAULT.set(fault);
}

pub(crate) fn has(fault: Fault) -> bool {
    FAULT.get() == fault
}
