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
    /// A link is committed before the ring that it leads to is sent.
    LinkBeforeRing,
    /// The queue goes back to its first ring before everything has been read.
    BackTooEarly,
    /// The first header in the ring that it goes back to is not zeroed.
    BackHeaderNotZeroed,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it, and every test has a thread of its own.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static GOES_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Breaks the models that this thread runs from now on.
pub(crate) fn inject(fault: Fault) {
    FAULT.set(fault);
}

pub(crate) fn has(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// Notes that a producer goes back to the first ring, and that it has.
pub(crate) fn note_going_back(going: bool) {
    GOES_BACK.set(going);
}

/// True if the store of a zero in a ring is to be left out.
pub(crate) fn leaves_header() -> bool {
    has(Fault::NextHeaderNotZeroed) || has(Fault::BackHeaderNotZeroed) && GOES_BACK.get()
}
