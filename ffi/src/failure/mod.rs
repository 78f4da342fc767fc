//! Failures: the code that a function returns, and its description, which each thread keeps for `msgport_describe`.

use std::any::Any;
use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::num::NonZeroI32;

use messageport::{FullCause, is_shortage};

use crate::code::{self, Code};

mod from;

pub(crate) use self::from::{NotReceived, code_of, watching};

/// The code of a function that failed. A description with more detail than the code is stored for the thread when the
/// failure is made. The codes of every polling loop (empty, full, timed out) have none, and so allocate nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failure(NonZeroI32);

/// The last failure of a thread that has a description.
struct Last {
    code: Code,
    text: String,
    os_error: i32,
    item: Option<usize>,
}

thread_local! {
    static LAST: RefCell<Last> = const {
        RefCell::new(Last { code: code::OK, text: String::new(), os_error: 0, item: None })
    };
}

impl Failure {
    /// A failure without a description of its own.
    pub(crate) const fn plain(code: Code) -> Self {
        match NonZeroI32::new(code) {
            Some(code) => Self(code),
            None => panic!("0 is the code of success"),
        }
    }

    #[cold]
    fn new(code: Code, error: &dyn Display) -> Self {
        Self::note(code, 0, format!("{error:#}"))
    }

    #[cold]
    fn system(code: Code, os: &io::Error, error: &dyn Display) -> Self {
        Self::note(code, os.raw_os_error().unwrap_or(0), format!("{error:#}"))
    }

    /// A system call failed: for want of something, or for another reason.
    #[cold]
    pub(crate) fn of_system(os: &io::Error, error: &dyn Display) -> Self {
        Self::system(if is_shortage(os) { code::RESOURCE_EXHAUSTED } else { code::SYSTEM }, os, error)
    }

    fn note(code: Code, os_error: i32, text: String) -> Self {
        // Does nothing in a thread that is ending: its description is never read.
        let _ = LAST.try_with(|last| *last.borrow_mut() = Last { code, text, os_error, item: None });
        Self::plain(code)
    }

    /// An item of a transfer list is at fault.
    #[cold]
    fn of_item(code: Code, index: usize, error: &dyn Display) -> Self {
        let failure = Self::new(code, error);
        let _ = LAST.try_with(|last| last.borrow_mut().item = Some(index)); // as in `note`
        failure
    }

    /// An argument is NULL.
    #[cold]
    pub(crate) fn null(argument: &str) -> Self {
        Self::new(code::NULL_ARGUMENT, &format_args!("{argument} is NULL"))
    }

    #[cold]
    pub(crate) fn bad_argument(why: &str) -> Self {
        Self::new(code::BAD_ARGUMENT, &why)
    }

    #[cold]
    pub(crate) fn bad_item(index: usize, why: &str) -> Self {
        Self::of_item(code::BAD_ITEM, index, &format_args!("item {index} of the transfer list: {why}"))
    }

    #[cold]
    pub(crate) fn out_of_range(index: usize, count: usize) -> Self {
        Self::new(code::OUT_OF_RANGE, &format_args!("{index} is not less than {count}"))
    }

    #[cold]
    pub(crate) fn exhausted(error: &io::Error) -> Self {
        Self::system(code::RESOURCE_EXHAUSTED, error, error)
    }

    #[cold]
    pub(crate) fn internal(error: &dyn Display) -> Self {
        Self::new(code::INTERNAL, error)
    }

    #[cold]
    pub(crate) fn of_panic(panic: Box<dyn Any + Send>) -> Self {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "panic".to_owned(),
        };
        // Its destructor may panic again.
        std::mem::forget(panic);
        Self::note(code::INTERNAL, 0, text)
    }

    #[inline]
    pub(crate) fn code(self) -> Code {
        self.0.get()
    }

    /// Calls `read` with the description of this thread's last failure if that had this code, otherwise with the
    /// code's text.
    pub(crate) fn with_description<T>(code: Code, read: impl Fn(&str) -> T) -> T {
        let described = LAST.try_with(|last| {
            let last = last.borrow();
            (last.code == code && !last.text.is_empty()).then(|| read(&last.text))
        });
        if code == code::LANE_FULL {
            return read(&FullCause::Lane.to_string()); // made here: polling loops must not allocate
        }
        described.ok().flatten().unwrap_or_else(|| read(code::text(code).to_str().unwrap_or_default()))
    }

    /// The index of the item on the transfer list that this thread's last failure named, if that had this code.
    pub(crate) fn last_item(code: Code) -> Option<usize> {
        let item = LAST.try_with(|last| Some(last.borrow()).filter(|last| last.code == code)?.item);
        item.ok().flatten()
    }

    /// The `errno` of this thread's last failure that had a description, 0 without one.
    pub(crate) fn last_os_error() -> i32 {
        LAST.try_with(|last| last.borrow().os_error).unwrap_or(0)
    }
}
