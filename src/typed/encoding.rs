//! A value as the data of a message, and back: postcard, with limits against a hostile peer.

use std::cell::Cell;
use std::sync::Arc;

use postcard::{Deserializer, de_flavors, ser_flavors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::things;
use crate::end::End;
use crate::error::{BadTransfer, BadValue, PostErrorKind, RecvError};
use crate::loan::Loans;
use crate::message::Message;

/// Memory that a thread keeps for its next message.
const KEPT: usize = 64 << 10;
/// Stack that decoding may use: a value of a recursive type is nested as deeply as the peer likes.
const STACK: usize = 256 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory of this thread, empty, to encode into or to receive into.
#[inline]
pub(crate) fn scratch() -> Vec<u8> {
    // A thread that is ending may have no such place any more.
    SCRATCH.try_with(Cell::take).unwrap_or_default()
}

/// Keeps memory for the next time.
#[inline]
pub(crate) fn keep_scratch(mut scratch: Vec<u8>) {
    if scratch.capacity() <= KEPT {
        scratch.clear();
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
}

/// Appends the encoding of `value` to `bytes`, for a post on `carrier`. Ports and buffers in it are lent.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, carrier: &Arc<End>, bytes: &mut Vec<u8>) -> Result<Loans, PostErrorKind> {
    let (result, loans) = things::lending(carrier, || postcard::serialize_with_flavor(value, Append(bytes)));
    result.map_err(|_| PostErrorKind::Unencodable).map(|()| loans)
}

/// Makes a value of a received message and keeps its memory as scratch. What the value does not take is closed.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(message: Message) -> Result<T, RecvError> {
    let Message { data, ports, buffers, frozen, shared, descriptors } = message;
    if frozen.len() + shared.len() + descriptors.len() > 0 {
        return Err(RecvError::MessageError { reason: BadTransfer::Value(BadValue::Unnamed), data });
    }
    match things::arriving(ports, buffers, || decode_data(&data)) {
        Ok(value) => {
            keep_scratch(data);
            Ok(value)
        }
        Err(bad) => Err(RecvError::MessageError { reason: BadTransfer::Value(bad), data }),
    }
}

#[inline]
fn decode_data<T: DeserializeOwned>(data: &[u8]) -> Result<T, BadValue> {
    let mut deserializer = Deserializer::from_flavor(Take { data, bottom: stack_pointer(), too_deep: false });
    let value = T::deserialize(&mut deserializer);
    let left = deserializer.finalize().ok();
    match (value, left) {
        (_, Some(Left { too_deep: true, .. })) => Err(BadValue::TooDeep),
        (Ok(_), Some(Left { len: 1.., .. })) => Err(BadValue::TooLong),
        (Ok(value), _) => Ok(value),
        (Err(_), _) => Err(BadValue::Encoding),
    }
}

/// Encodes to the end of a vector.
struct Append<'a>(&'a mut Vec<u8>);

impl ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes from a slice and watches the stack. Each level of a recursive type takes at least one byte of the encoding,
/// that of the enum, option or sequence that could have ended the recursion there, and so comes past here.
struct Take<'de> {
    data: &'de [u8],
    /// Where the stack was at the start.
    bottom: usize,
    too_deep: bool,
}

/// What is left of it.
struct Left {
    len: usize,
    too_deep: bool,
}

impl<'de> de_flavors::Flavor<'de> for Take<'de> {
    type Remainder = Left;
    type Source = &'de [u8];

    #[inline]
    fn pop(&mut self) -> postcard::Result<u8> {
        self.too_deep |= self.bottom.abs_diff(stack_pointer()) > STACK;
        match self.data {
            [first, rest @ ..] if !self.too_deep => {
                self.data = rest;
                Ok(*first)
            }
            _ => Err(postcard::Error::DeserializeUnexpectedEnd),
        }
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.data.len())
    }

    #[inline]
    fn try_take_n(&mut self, count: usize) -> postcard::Result<&'de [u8]> {
        let (taken, rest) = self.data.split_at_checked(count).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.data = rest;
        Ok(taken)
    }

    fn finalize(self) -> postcard::Result<Left> {
        Ok(Left { len: self.data.len(), too_deep: self.too_deep })
    }
}

/// About where the stack is.
#[inline]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
