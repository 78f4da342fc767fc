//! Ports and buffers inside a value: `Serialize` lends them to the post that encodes it, `Deserialize` takes them out of
//! the message that is being decoded. In the encoding each is its place among those of its kind in the message.

use std::cell::{Cell, RefCell};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use super::TypedPort;
use crate::buffer::TransferBuffer;
use crate::error::BadValue;
use crate::port::loan::Loan;
use crate::port::message::Message;
use crate::port::{MessagePort, loan};

const NOT_POSTED: &str = "ports and buffers can be serialized only in a value that is posted on a typed port";
const NOT_RECEIVED: &str = "ports and buffers can be deserialized only in a value that is received on a typed port";
const NOT_THERE: &str = "no such port or buffer came with the message, or it was taken before";

thread_local! {
    static LENDING: Lending = const { Lending { from: Cell::new(NOBODY), list: RefCell::new(Vec::new()) } };
    static ARRIVING: Arriving = const { Arriving { state: Cell::new(State::Outside), things: RefCell::new(None) } };
}

/// What the values that this thread is encoding lend: those of the innermost one begin at `from`. (A `Serialize` may post
/// another value.)
struct Lending {
    from: Cell<usize>,
    list: RefCell<Vec<Loan>>,
}

/// `Lending::from` outside of any value.
const NOBODY: usize = usize::MAX;

/// What came with the message that this thread is decoding: the innermost one. (A `Deserialize` may receive another.)
struct Arriving {
    state: Cell<State>,
    /// Not looked at unless `state` is `Things`.
    things: RefCell<Option<Things>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is being decoded.
    Outside,
    /// A message is that brought nothing.
    Nothing,
    Things,
    /// A value has named something that is not there.
    Missed,
}

struct Things {
    ports: Vec<Option<MessagePort>>,
    buffers: Vec<Option<TransferBuffer>>,
}

/// Runs `encode`. Returns what it has lent, which is given back if it panics.
#[inline]
pub(crate) fn lending<R>(encode: impl FnOnce() -> R) -> (R, Vec<Loan>) {
    // A thread that is ending may have no list any more; then nothing can be lent.
    let enter = |lending: &Lending| lending.from.replace(lending.list.borrow().len());
    let inner = Inner { outer_from: LENDING.try_with(enter).unwrap_or(NOBODY) };
    let result = encode();
    let list = inner.take();
    std::mem::forget(inner);
    (result, list)
}

/// While a value is being encoded.
struct Inner {
    outer_from: usize,
}

impl Inner {
    /// Takes what this value lends off the list, which is the outer value's again.
    #[inline]
    fn take(&self) -> Vec<Loan> {
        let leave = |lending: &Lending| {
            let from = lending.from.replace(self.outer_from);
            let mut list = lending.list.borrow_mut();
            if from < list.len() { list.split_off(from) } else { Vec::new() }
        };
        LENDING.try_with(leave).unwrap_or_default()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Runs `decode`, which may take what came with a message, and must take all of it.
#[inline]
pub(crate) fn arriving<R>(
    message: &mut Message,
    decode: impl FnOnce(&[u8]) -> Result<R, BadValue>,
) -> Result<R, BadValue> {
    let things = Things::of(message);
    let had_things = things.is_some();
    let enter = |arriving: &Arriving| {
        let state = if had_things { State::Things } else { State::Nothing };
        let outer_things = if had_things { arriving.things.replace(things) } else { None };
        Visit { outer_state: arriving.state.replace(state), outer_things, had_things }
    };
    let Ok(mut visit) = ARRIVING.try_with(enter) else {
        // This thread is ending: nothing can be taken any more.
        return if had_things { Err(BadValue::NoSuchThing) } else { decode(&message.data) };
    };
    let result = decode(&message.data);
    match visit.leave() {
        (State::Missed, _) => Err(BadValue::NoSuchThing),
        (_, Some(left)) if result.is_ok() && !left.is_empty() => Err(BadValue::Unnamed),
        _ => result,
    }
}

/// While a message is being decoded.
struct Visit {
    outer_state: State,
    outer_things: Option<Things>,
    had_things: bool,
}

impl Visit {
    /// Takes what is left, and puts back what belongs to the outer message.
    #[inline]
    fn leave(&mut self) -> (State, Option<Things>) {
        let leave = |arriving: &Arriving| {
            let state = arriving.state.replace(self.outer_state);
            let had_things = std::mem::take(&mut self.had_things);
            (state, if had_things { arriving.things.replace(self.outer_things.take()) } else { None })
        };
        ARRIVING.try_with(leave).unwrap_or((State::Outside, None))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Only after a panic is there something left.
        drop(self.leave());
    }
}

impl Things {
    #[inline]
    fn of(message: &mut Message) -> Option<Self> {
        if message.ports.is_empty() && message.buffers.is_empty() {
            return None;
        }
        Some(Self {
            ports: message.ports.drain(..).map(Some).collect(),
            buffers: message.buffers.drain(..).map(Some).collect(),
        })
    }

    fn is_empty(&self) -> bool {
        self.ports.iter().all(Option::is_none) && self.buffers.iter().all(Option::is_none)
    }
}

fn lend<S: Serializer>(serializer: S, lend: impl FnOnce(&mut Vec<Loan>, usize) -> u32) -> Result<S::Ok, S::Error> {
    let lend = |lending: &Lending| {
        let from = Some(lending.from.get()).filter(|from| *from != NOBODY)?;
        Some(lend(&mut lending.list.borrow_mut(), from))
    };
    let place = LENDING.try_with(lend).ok().flatten().ok_or_else(|| S::Error::custom(NOT_POSTED))?;
    serializer.serialize_u32(place)
}

fn take<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    list: impl FnOnce(&mut Things) -> &mut [Option<T>],
) -> Result<T, D::Error> {
    let index = u32::deserialize(deserializer)? as usize;
    let take = |arriving: &Arriving| {
        if arriving.state.get() == State::Outside {
            return Err(NOT_RECEIVED);
        }
        let mut things = arriving.things.borrow_mut();
        let things = things.as_mut().filter(|_| arriving.state.get() == State::Things);
        let taken = things.and_then(|things| list(things).get_mut(index)?.take());
        taken.ok_or_else(|| {
            arriving.state.set(State::Missed);
            NOT_THERE
        })
    };
    ARRIVING.try_with(take).unwrap_or(Err(NOT_RECEIVED)).map_err(D::Error::custom)
}

/// Only inside a value that is posted on a [`TypedPort`]: the port moves with the value, as by a transfer list. Anywhere
/// else this is an error.
///
/// Until the post has succeeded or failed the port is lent to it: every call on it fails with `Borrowed`. If it is
/// dropped or closed meanwhile the post fails. After a post that failed it is as it was before.
impl Serialize for MessagePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |list, from| loan::port(list, from, self))
    }
}

/// Only inside a value that is received on a [`TypedPort`].
impl<'de> Deserialize<'de> for MessagePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, |things| &mut things.ports)
    }
}

/// As for [`MessagePort`].
impl Serialize for TransferBuffer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |list, from| loan::buffer(list, from, self))
    }
}

/// As for [`MessagePort`].
impl<'de> Deserialize<'de> for TransferBuffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, |things| &mut things.buffers)
    }
}

/// As its [`MessagePort`].
impl<Out, In> Serialize for TypedPort<Out, In> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_port().serialize(serializer)
    }
}

/// As its [`MessagePort`].
impl<'de, Out, In> Deserialize<'de> for TypedPort<Out, In> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        MessagePort::deserialize(deserializer).map(Self::from)
    }
}
