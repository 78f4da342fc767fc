//! Ports and buffers inside a value: `Serialize` lends them to the post that encodes it, `Deserialize` takes them out of
//! the message that is being decoded. In the encoding each is its place among those of its kind in the message.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread::LocalKey;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use super::TypedPort;
use crate::buffer::TransferBuffer;
use crate::end::End;
use crate::error::BadValue;
use crate::loan::Loans;
use crate::port::MessagePort;

const NOT_POSTED: &str = "ports and buffers can be serialized only in a value that is posted on a typed port";
const NOT_RECEIVED: &str = "ports and buffers can be deserialized only in a value that is received on a typed port";
const NOT_THERE: &str = "no such port or buffer came with the message, or it was taken before";

type Place<T> = RefCell<Option<T>>;

thread_local! {
    static LENDING: Place<Loans> = const { RefCell::new(None) };
    static ARRIVING: Place<Arrived> = const { RefCell::new(None) };
}

/// What came with the message that is being decoded.
struct Arrived {
    ports: Vec<Option<MessagePort>>,
    buffers: Vec<Option<TransferBuffer>>,
    missed: bool,
}

/// Runs `encode` and returns what it lent.
#[inline]
pub(crate) fn lending<R>(carrier: &Arc<End>, encode: impl FnOnce() -> R) -> (R, Loans) {
    let (result, loans) = with_list(&LENDING, Loans::new(carrier), encode);
    (result, loans.unwrap_or_else(|| Loans::new(carrier)))
}

/// Runs `decode`, which may take these things, and must take all of them.
#[inline]
pub(crate) fn arriving<R>(
    ports: Vec<MessagePort>,
    buffers: Vec<TransferBuffer>,
    decode: impl FnOnce() -> Result<R, BadValue>,
) -> Result<R, BadValue> {
    let arrived = Arrived {
        ports: ports.into_iter().map(Some).collect(),
        buffers: buffers.into_iter().map(Some).collect(),
        missed: false,
    };
    let (result, left) = with_list(&ARRIVING, arrived, decode);
    match (result, left) {
        (Err(_), Some(Arrived { missed: true, .. })) => Err(BadValue::NoSuchThing),
        (Err(bad), _) => Err(bad),
        (Ok(value), Some(left)) if left.is_empty() => Ok(value),
        (Ok(_), _) => Err(BadValue::Unnamed),
    }
}

/// Puts `list` into its place while `body` runs, and then what was there before: a `Serialize` may post another value, a
/// `Deserialize` receive one, and either may panic.
#[inline]
fn with_list<T: 'static, R>(place: &'static LocalKey<Place<T>>, list: T, body: impl FnOnce() -> R) -> (R, Option<T>) {
    struct Restore<T: 'static>(&'static LocalKey<Place<T>>, Option<T>);
    impl<T> Drop for Restore<T> {
        fn drop(&mut self) {
            let outer = self.1.take();
            drop(replace(self.0, outer));
        }
    }
    let outer = replace(place, Some(list));
    let restore = Restore(place, outer);
    let result = body();
    let list = replace(place, None);
    drop(restore);
    (result, list)
}

/// A thread that is ending may have no lists any more: then nothing can be lent, or taken.
#[inline]
fn replace<T>(place: &'static LocalKey<Place<T>>, list: Option<T>) -> Option<T> {
    place.try_with(|place| place.replace(list)).ok().flatten()
}

/// Does something with the list, if there is one.
fn on_list<T, R>(place: &'static LocalKey<Place<T>>, action: impl FnOnce(&mut T) -> R) -> Option<R> {
    place.try_with(|place| place.borrow_mut().as_mut().map(action)).ok().flatten()
}

impl Arrived {
    fn is_empty(&self) -> bool {
        self.ports.iter().all(Option::is_none) && self.buffers.iter().all(Option::is_none)
    }

    /// One of the things, if it is there.
    fn take<T>(&mut self, list: impl FnOnce(&mut Self) -> &mut [Option<T>], index: u32) -> Option<T> {
        let taken = list(self).get_mut(index as usize).and_then(Option::take);
        self.missed |= taken.is_none();
        taken
    }
}

fn lend<S: Serializer>(serializer: S, lend: impl FnOnce(&mut Loans) -> u32) -> Result<S::Ok, S::Error> {
    let place = on_list(&LENDING, lend).ok_or_else(|| S::Error::custom(NOT_POSTED))?;
    serializer.serialize_u32(place)
}

fn take<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    list: impl FnOnce(&mut Arrived) -> &mut [Option<T>],
) -> Result<T, D::Error> {
    let index = u32::deserialize(deserializer)?;
    let taken = on_list(&ARRIVING, |arrived| arrived.take(list, index));
    taken.ok_or_else(|| D::Error::custom(NOT_RECEIVED))?.ok_or_else(|| D::Error::custom(NOT_THERE))
}

/// Only inside a value that is posted on a [`TypedPort`]: the port moves with the value, as by a transfer list. Anywhere
/// else this is an error.
///
/// Until the post has succeeded or failed the port is lent to it: every call on it fails with `Borrowed`. If it is
/// dropped or closed meanwhile the post fails. After a post that failed it is as it was before.
impl Serialize for MessagePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |loans| loans.port(self))
    }
}

/// Only inside a value that is received on a [`TypedPort`].
impl<'de> Deserialize<'de> for MessagePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, |arrived| &mut arrived.ports)
    }
}

/// As for [`MessagePort`].
impl Serialize for TransferBuffer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        lend(serializer, |loans| loans.buffer(self))
    }
}

/// As for [`MessagePort`].
impl<'de> Deserialize<'de> for TransferBuffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        take(deserializer, |arrived| &mut arrived.buffers)
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
