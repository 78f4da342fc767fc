//! The faults that the controls plant. The library's files stay unchanged: a fault breaks the primitives that they use,
//! or the models' own ends.

use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// Headers are stored relaxed.
    CommitNotReleased,
    /// The read cursor is stored relaxed. The fence behind an announcement stays.
    CursorNotReleased,
    /// A commit has no fence behind it.
    NoFenceAfterCommit,
    /// An announcement has no fence behind it.
    NoFenceAfterAnnouncement,
    /// The sleeper puts no fence between its note and its last poll.
    NoFenceInSleeper,
    /// A closing end puts no fence between the state words and the doorbells.
    NoFenceInClose,
    /// A post of a split port is not marked.
    PostNotMarked,
    /// A post of a split port puts no fence between its mark and its load of the state.
    NoFenceInPost,
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
    /// The consumer writes to the lines of a record after it has released the record.
    OwnAfterRelease,
    /// The lane is drained after the doorbell was armed for it.
    DrainAfterArm,
    /// A closing end does not ring its own doorbells.
    OwnHalvesNotRung,
    /// A link is committed before the ring that it leads to is sent.
    LinkBeforeRing,
    /// The queue goes back to its first ring before everything has been read.
    BackTooEarly,
    /// The first header in the ring that the queue goes back to is not zeroed.
    BackHeaderNotZeroed,
    /// A sleeping producer wants more room than there will be.
    WantsTooMuch,
}

thread_local! {
    // loom runs all threads of a model on the thread that started it, and every test has its own thread.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    static GOES_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Plants a fault in the models that this thread runs from now on.
pub(crate) fn inject(fault: Fault) {
    FAULT.set(fault);
}

pub(crate) fn has(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// Notes whether a producer is going back to the first ring.
pub(crate) fn note_going_back(going: bool) {
    GOES_BACK.set(going);
}

/// True if the fault skips a store of zero to a ring.
pub(crate) fn skips_zero() -> bool {
    has(Fault::NextHeaderNotZeroed) || has(Fault::BackHeaderNotZeroed) && GOES_BACK.get()
}
