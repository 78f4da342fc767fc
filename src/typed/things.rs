//! Ports and buffers inside a value. `Serialize` lends them to the post that encodes the value, and `Deserialize` takes
//! them out of the message that is being decoded. A port is encoded as its index among the ports of the message, a
//! buffer as its index among the buffers.

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
    static LENDING: Lending = const { Lending { from: Cell::new(NOT_ENCODING), list: RefCell::new(Vec::new()) } };
    static ARRIVING: Arriving =
        const { Arriving { state: Cell::new(ArrivingState::Outside), things: RefCell::new(None) } };
}

/// The loans of the values that this thread is encoding. A `Serialize` may post another value, so values nest; the
/// loans of the innermost value begin at `from`.
struct Lending {
    from: Cell<usize>,
    list: RefCell<Vec<Loan>>,
}

/// The value of `Lending::from` while the thread encodes no value.
const NOT_ENCODING: usize = usize::MAX;

/// The ports and buffers of the message that this thread is decoding. A `Deserialize` may receive another message, so
/// messages nest; these are of the innermost one.
struct Arriving {
    state: Cell<ArrivingState>,
    /// Valid only while `state` is `Unclaimed`.
    things: RefCell<Option<Unclaimed>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ArrivingState {
    /// The thread decodes no message.
    Outside,
    /// The thread decodes a message without ports and buffers.
    Nothing,
    /// The thread decodes a message with ports or buffers.
    Unclaimed,
    /// The value has named a port or buffer that is not there.
    Missed,
}

/// The ports and buffers of a message. Those that the value has taken are `None`, or without a hold.
struct Unclaimed {
    ports: Vec<Option<MessagePort>>,
    buffers: Vec<TransferBuffer>,
}

// The standard library collects into the memory of the source where the items have the same size.
const _: () = assert!(size_of::<Option<MessagePort>>() == size_of::<MessagePort>());

/// Runs `encode`. Returns the loans, which are given back if it panics.
#[inline]
pub(crate) fn lending<R>(encode: impl FnOnce() -> R) -> (R, Vec<Loan>) {
    // A thread that is ending may have lost its list. Then nothing can be lent.
    let enter = |lending: &Lending| lending.from.replace(lending.list.borrow().len());
    let inner = Inner { outer_from: LENDING.try_with(enter).unwrap_or(NOT_ENCODING) };
    let result = encode();
    let list = inner.take();
    std::mem::forget(inner);
    (result, list)
}

/// A value that is being encoded.
struct Inner {
    outer_from: usize,
}

impl Inner {
    /// Takes the loans of this value off the list, which belongs to the outer value again.
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

/// Runs `decode` with the data of a message. The value must take everything that the message carries.
#[inline]
pub(crate) fn arriving<R>(
    message: &mut Message,
    decode: impl FnOnce(&[u8]) -> Result<R, BadValue>,
) -> Result<R, BadValue> {
    let things = Unclaimed::of(message);
    let had_things = things.is_some();
    let enter = |arriving: &Arriving| {
        let state = if had_things { ArrivingState::Unclaimed } else { ArrivingState::Nothing };
        let outer_things = if had_things { arriving.things.replace(things) } else { None };
        Visit { outer_state: arriving.state.replace(state), outer_things, had_things }
    };
    let Ok(mut visit) = ARRIVING.try_with(enter) else {
        // The thread is ending: nothing more can be taken.
        return if had_things { Err(BadValue::NoSuchThing) } else { decode(&message.data) };
    };
    let result = decode(&message.data);
    match visit.leave() {
        (ArrivingState::Missed, _) => Err(BadValue::NoSuchThing),
        (_, Some(left)) if result.is_ok() && !left.is_empty() => Err(BadValue::Unnamed),
        // No value can name a frozen buffer, a shared buffer or a descriptor.
        _ if result.is_ok() && message.has_transferred() => Err(BadValue::Unnamed),
        _ => result,
    }
}

/// A message that is being decoded.
struct Visit {
    outer_state: ArrivingState,
    outer_things: Option<Unclaimed>,
    had_things: bool,
}

impl Visit {
    /// Takes what the value has not claimed, and restores the state of the outer message.
    #[inline]
    fn leave(&mut self) -> (ArrivingState, Option<Unclaimed>) {
        let leave = |arriving: &Arriving| {
            let state = arriving.state.replace(self.outer_state);
            let had_things = std::mem::take(&mut self.had_things);
            (state, if had_things { arriving.things.replace(self.outer_things.take()) } else { None })
        };
        ARRIVING.try_with(leave).unwrap_or((ArrivingState::Outside, None))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Something is left only after a panic.
        drop(self.leave());
    }
}

impl Unclaimed {
    /// Takes the things out of a message. Their memory becomes that of the result: a message that has been received
    /// must not be lost for want of more.
    #[inline]
    fn of(message: &mut Message) -> Option<Self> {
        if message.ports.is_empty() && message.buffers.is_empty() {
            return None;
        }
        Some(Self {
            ports: std::mem::take(&mut message.ports).into_iter().map(Some).collect(),
            buffers: std::mem::take(&mut message.buffers),
        })
    }

    fn is_empty(&self) -> bool {
        self.ports.iter().all(Option::is_none) && self.buffers.iter().all(|buffer| buffer.hold().borrow().is_none())
    }

    fn take_port(&mut self, index: usize) -> Option<MessagePort> {
        self.ports.get_mut(index)?.take()
    }

    fn take_buffer(&mut self, index: usize) -> Option<TransferBuffer> {
        self.buffers.get(index)?.hold().take().map(TransferBuffer::from_hold)
    }
}

fn lend<S: Serializer>(serializer: S, lend: impl FnOnce(&mut Vec<Loan>, usize) -> u32) -> Result<S::Ok, S::Error> {
    let lend = |lending: &Lending| {
        let from = Some(lending.from.get()).filter(|from| *from != NOT_ENCODING)?;
        Some(lend(&mut lending.list.borrow_mut(), from))
    };
    let place = LENDING.try_with(lend).ok().flatten().ok_or_else(|| S::Error::custom(NOT_POSTED))?;
    serializer.serialize_u32(place)
}

fn take<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    take_from: impl FnOnce(&mut Unclaimed, usize) -> Option<T>,
) -> Result<T, D::Error> {
    let index = u32::deserialize(deserializer)? as usize;
    let take = |arriving: &Arriving| {
        if arriving.state.get() == ArrivingState::Outside {
            return Err(NOT_RECEIVED);
        }
        let mut things = arriving.things.borrow_mut();
        let things = things.as_mut().filter(|_| arriving.state.get() == ArrivingState::Unclaimed);
        let taken = things.and_then(|things| take_from(things, index));
        taken.ok_or_else(|| {
            arriving.state.set(ArrivingState::Missed);
            NOT_THERE
        })
    };
    ARRIVING.try_with(take).unwrap_or(Err(NOT_RECEIVED)).map_err(D::Error::custom)
}

/// Inside a value that is posted on a [`TypedPort`], the port moves with the value, as it would on a transfer list.
/// Anywhere else serializing it is an error.
///
/// The port is lent to the post until the post succeeds or fails; meanwhile every call on it fails with `Borrowed`. If
/// it is dropped or closed meanwhile, the post fails. After a post that failed it is unchanged.
impl Serialize for MessagePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |list, from| loan::port(list, from, self))
    }
}

/// Possible only inside a value that is received on a [`TypedPort`].
impl<'de> Deserialize<'de> for MessagePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, Unclaimed::take_port)
    }
}

/// Inside a value that is posted on a [`TypedPort`], the buffer moves with the value; see [`MessagePort`].
impl Serialize for TransferBuffer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |list, from| loan::buffer(list, from, self))
    }
}

/// Possible only inside a value that is received on a [`TypedPort`].
impl<'de> Deserialize<'de> for TransferBuffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, Unclaimed::take_buffer)
    }
}

/// Serializes the untyped [`MessagePort`].
impl<Out, In> Serialize for TypedPort<Out, In> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_port().serialize(serializer)
    }
}

/// Deserializes the untyped [`MessagePort`].
impl<'de, Out, In> Deserialize<'de> for TypedPort<Out, In> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        MessagePort::deserialize(deserializer).map(Self::from)
    }
}
