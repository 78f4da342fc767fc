//! Result codes: numbers that never change, names and texts.

use std::ffi::{CStr, c_char, c_int};

use crate::failure::Failure;

/// `msgport_code`.
pub type Code = i32;

/// Makes a constant of each code, and the table that names them.
macro_rules! codes {
    ($($name:ident = $number:literal $text:literal,)*) => {
        $(pub const $name: Code = $number;)*

        const TABLE: &[(Code, &CStr, &CStr)] = &[$(($number, as_c(concat!("MSGPORT_", stringify!($name), "\0")), as_c(concat!($text, "\0"))),)*];
    };
}

codes! {
    OK = 0 "success",

    EMPTY = 1 "the queue is empty",
    TIMED_OUT = 2 "timed out",
    FULL = 3 "the queue is full",
    LANE_FULL = 4 "too many transfer lists are unread",

    PEER_CLOSED = 10 "the peer was closed",
    PEER_DIED = 11 "the process that held the peer ended",
    PROTOCOL_VIOLATION = 12 "the peer broke the format of the queue",
    LOOP_GONE = 13 "the event loop has been freed",
    REQUEST_DROPPED = 14 "the server has dropped the request without answering it",
    CALL_OVER = 15 "the call has been answered, or its failure told, before",

    CLOSED = 20 "the port has been closed",
    DETACHED = 21 "the port or buffer has been transferred",
    BORROWED = 22 "a reservation or a message in place is open",
    FORKED = 23 "inherited by fork, and belongs to the parent process",
    WRONG_HALF = 24 "this half of a port cannot do that",
    NOTHING_OPEN = 25 "no reservation or message in place is open",
    DIFFERENT_PORTS = 26 "the two halves belong to different ports",
    WATCHED = 27 "the port is in an event loop or a set",
    NOT_IN_LOOP = 28 "the port is not in that event loop",
    RUNNING = 29 "a loop does not run within itself",

    NULL_ARGUMENT = 30 "an argument is NULL",
    BAD_ARGUMENT = 31 "an argument is not what it must be",
    BAD_OPTIONS = 32 "unknown options",
    BAD_HANDLE = 33 "not a handle of this kind",
    OUT_OF_RANGE = 34 "not inside the memory, the list or the reservation",
    NOT_FOUND = 35 "there is no such listener, timer or port",
    NO_PORTS = 36 "there are no ports in the set",

    CONTAINS_SELF = 40 "the transfer list contains the posting port itself",
    CONTAINS_PEER = 41 "the transfer list contains the posting port's peer",
    DUPLICATE = 42 "the transfer list contains the same thing twice",
    UNUSABLE = 43 "an item of the transfer list is closed, detached, borrowed or forked",
    BAD_ITEM = 44 "an item of the transfer list is nothing that can be transferred",
    TOO_LARGE = 45 "the message is longer than the channel allows",
    TOO_MANY_HANDLES = 46 "the transfer list has more descriptors than the channel allows",
    MESSAGE_ERROR = 47 "the message cannot be received",
    TAKEN = 48 "it has been taken out of the message before",
    POOLED_ELSEWHERE = 49 "a buffer of the transfer list is known to the peer of another port, and can be posted there",

    NOT_NEW = 50 "only a new buffer can be frozen, and this one was received",
    MAPPED_ELSEWHERE = 51 "somebody else has the buffer mapped for writing",
    UNREADABLE = 52 "the file cannot be read",

    BAD_NAME = 60 "not a usable name",
    NAME_TOO_LONG = 61 "the path of the socket is longer than 107 bytes",
    UNSAFE_DIRECTORY = 62 "the directory for names is not a private directory of this user",
    IN_USE = 63 "another listener uses this name",
    NOT_A_SOCKET = 64 "there is something of this name that is no socket",
    NOBODY_LISTENS = 65 "nobody listens there",
    WRONG_USER = 66 "the listener runs as another user",
    REFUSED = 67 "the listener refused the connection",
    WRONG_VERSION = 68 "the other side speaks another version of the format",
    NO_PARENT_PORT = 69 "the parent process gave no port, or it was taken before",
    BAD_PARENT_PORT = 70 "what was inherited from the parent process is no port",
    NAME_EXISTS = 71 "the name is taken",
    NAME_MISSING = 72 "there is no buffer of this name",
    NOT_OURS = 73 "the name is not this user's alone",
    UNFINISHED = 74 "the buffer has not been finished by its maker",
    NOT_A_BUFFER = 75 "there is something of this name that is no buffer",
    TOO_SMALL = 76 "the buffer has fewer bytes than asked for",

    RESOURCE_EXHAUSTED = 80 "the system has no memory, descriptors or the like to give",
    SYSTEM = 81 "the system refuses",

    INTERNAL = 90 "a mistake of this library",
}

const fn as_c(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a zero inside the text"),
    }
}

fn find(code: Code) -> Option<&'static (Code, &'static CStr, &'static CStr)> {
    TABLE.iter().find(|(known, _, _)| *known == code)
}

pub(crate) fn text(code: Code) -> &'static CStr {
    find(code).map_or(c"unknown code", |(_, _, text)| text)
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_code_name(code: Code) -> *const c_char {
    find(code).map_or(c"MSGPORT_UNKNOWN", |(_, name, _)| name).as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_code_text(code: Code) -> *const c_char {
    text(code).as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_describe(code: Code, into: *mut c_char, size: usize) -> usize {
    Failure::with_last(code, |description| {
        if !into.is_null() && size > 0 {
            // Whole characters only.
            let len = description.floor_char_boundary(size - 1);
            // SAFETY: the caller has `size` bytes at `into`, and `len` is less.
            unsafe { into.copy_from_nonoverlapping(description.as_ptr().cast(), len) };
            // SAFETY: as above.
            let end = unsafe { into.add(len) };
            // SAFETY: the byte behind the text, still inside `size`.
            unsafe { end.write(0) };
        }
        description.len()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_os_error() -> c_int {
    Failure::last_os_error()
}

#[unsafe(no_mangle)]
pub extern "C" fn msgport_version() -> u32 {
    const fn number(text: &str) -> u32 {
        let (bytes, mut value, mut index) = (text.as_bytes(), 0, 0);
        while index < bytes.len() {
            value = value * 10 + (bytes[index] - b'0') as u32;
            index += 1;
        }
        value
    }
    const VERSION: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
        + number(env!("CARGO_PKG_VERSION_PATCH"));
    VERSION
}
