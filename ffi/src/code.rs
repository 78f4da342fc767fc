//! Result codes: their numbers, which never change, their names and their texts.

use std::ffi::CStr;

/// `msgport_code`.
pub type Code = i32;

/// Defines a constant for each code, and the table of their names and texts.
macro_rules! codes {
    ($($name:ident = $number:literal $text:literal,)*) => {
        $(pub const $name: Code = $number;)*

        const TABLE: &[(Code, &CStr, &CStr)] = &[
            $(($number, as_c(concat!("MSGPORT_", stringify!($name), "\0")), as_c(concat!($text, "\0"))),)*
        ];
    };
}

codes! {
    OK = 0 "success",

    EMPTY = 1 "there is nothing to receive",
    TIMED_OUT = 2 "timed out",
    FULL = 3 "the queue is full",
    LANE_FULL = 4 "too many messages with transfer lists are unread",
    INTERRUPTED = 5 "an interrupter or a signal ended the wait",

    PEER_CLOSED = 10 "the peer was closed",
    PEER_DIED = 11 "the process that held the peer ended",
    PROTOCOL_VIOLATION = 12 "the peer violated the format of the queue",
    LOOP_GONE = 13 "the event loop has been freed",
    REQUEST_DROPPED = 14 "the server dropped the request without answering it",
    CALL_OVER = 15 "the call has already returned its answer or its failure",

    CLOSED = 20 "the port has been closed",
    DETACHED = 21 "the port or buffer has been transferred",
    BORROWED = 22 "a reservation or a message in place is open",
    FORKED = 23 "the handle was inherited by fork and belongs to the parent process",
    WRONG_HALF = 24 "this half of a port does not support the operation",
    NOTHING_OPEN = 25 "no reservation or message in place is open",
    DIFFERENT_PORTS = 26 "the two halves belong to different ports",
    WATCHED = 27 "the port is in an event loop or a set",
    NOT_IN_LOOP = 28 "the port is not in this event loop",
    RUNNING = 29 "the event loop is in use: a handler or another thread made the call",

    NULL_ARGUMENT = 30 "an argument is NULL",
    BAD_ARGUMENT = 31 "an argument has an invalid value",
    BAD_OPTIONS = 32 "options that this version of the library does not support",
    BAD_HANDLE = 33 "the pointer is a handle of another type",
    OUT_OF_RANGE = 34 "outside the memory, the list or the reservation",
    NOT_FOUND = 35 "there is no such handler, timer or port",
    NO_PORTS = 36 "there are no ports in the set",

    CONTAINS_SELF = 40 "the transfer list contains the posting port itself",
    CONTAINS_PEER = 41 "the transfer list contains the posting port's peer",
    DUPLICATE = 42 "the transfer list contains the same thing twice",
    UNUSABLE = 43 "an item of the transfer list is closed, detached, borrowed or forked",
    BAD_ITEM = 44 "an item of the transfer list cannot be transferred",
    TOO_LARGE = 45 "the message is longer than the channel allows; a buffer carries more",
    TOO_MANY_HANDLES = 46 "the transfer list has more descriptors than the channel allows",
    MESSAGE_ERROR = 47 "the message cannot be received",
    TAKEN = 48 "the thing has already been taken out of the message",

    NOT_NEW = 50 "a buffer that was received cannot be frozen",
    MAPPED_ELSEWHERE = 51 "another mapping of the buffer is writable",
    UNREADABLE = 52 "the file cannot be read",

    BAD_NAME = 60 "the name is not allowed",
    NAME_TOO_LONG = 61 "the path of the socket is longer than 107 bytes",
    UNSAFE_DIRECTORY = 62 "the directory for names is not a private directory of this user",
    IN_USE = 63 "another listener uses the name",
    NOT_A_SOCKET = 64 "the name belongs to a file that is not a socket",
    NO_LISTENER = 65 "there is no listener of this name",
    WRONG_USER = 66 "the listener, or its path, belongs to another user",
    REFUSED = 67 "the listener refused the connection",
    WRONG_VERSION = 68 "the other process uses another version of the format",
    NO_PARENT_PORT = 69 "the parent process gave no port, or it is taken, or a program between lost it",
    BAD_PARENT_PORT = 70 "the descriptors inherited from the parent process are not a port",
    NAME_EXISTS = 71 "the name is taken",
    NAME_MISSING = 72 "there is no buffer of this name",
    NOT_OURS = 73 "the named file is not private to this user",
    UNFINISHED = 74 "the creator of the buffer has not finished it",
    NOT_A_BUFFER = 75 "the name belongs to a file that is not a buffer",
    TOO_SMALL = 76 "the buffer has fewer bytes than required",
    OVERLOADED = 77 "the listener has no memory or descriptors left for the connection",

    RESOURCE_EXHAUSTED = 80 "the system has no memory, descriptors or similar resources left",
    SYSTEM = 81 "the system refused the operation",

    INTERNAL = 90 "internal error of the library",
    LEFT_OUT = 91 "this build of the library is without the feature",
}

const fn as_c(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL byte inside the text"),
    }
}

fn find(code: Code) -> Option<&'static (Code, &'static CStr, &'static CStr)> {
    TABLE.iter().find(|(known, _, _)| *known == code)
}

/// The name of a code, as the header spells it.
pub(crate) fn name(code: Code) -> &'static CStr {
    find(code).map_or(c"MSGPORT_UNKNOWN", |(_, name, _)| name)
}

/// The meaning of a code, in a few words.
pub(crate) fn text(code: Code) -> &'static CStr {
    find(code).map_or(c"unknown code", |(_, _, text)| text)
}
