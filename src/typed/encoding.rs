//! Encodes a value as the data of a message and decodes it, with postcard and limits against a hostile peer.

use postcard::{Deserializer, de_flavors, ser_flavors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{TypedPostErrorKind, things};
use crate::error::{BadTransfer, BadValue, RecvError};
use crate::port::loan::Loan;
use crate::port::message::Message;

/// Decoding may use 512 KiB of stack: the peer chooses how deeply a value of a recursive type is nested.
const MAX_STACK: usize = 512 << 10;

/// Appends the encoding of `value` to `bytes`. Returns the loans of the ports and buffers in it.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<Vec<Loan>, TypedPostErrorKind> {
    let (result, list) = things::lending(|| postcard::serialize_with_flavor(value, Append(bytes)));
    match result {
        Ok(()) => Ok(list),
        Err(_) => Err(TypedPostErrorKind::Unencodable),
    }
}

/// Decodes the value of a received message. Whatever the message carries and the value does not take is closed.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(message: &mut Message) -> Result<T, RecvError> {
    things::arriving(message, decode_data).map_err(|bad| {
        let data = std::mem::take(&mut message.data);
        message.refuse();
        RecvError::MessageError { reason: BadTransfer::Value(bad), data }
    })
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

/// Appends the encoding to a vector.
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

/// Decodes from a slice and checks the depth of the stack at each byte. Every level of a recursive type reads at least
/// one byte, that of the enum, option or sequence that could have ended the recursion, so no level escapes the check.
struct Take<'de> {
    data: &'de [u8],
    /// The address of the stack when decoding began.
    bottom: usize,
    too_deep: bool,
}

/// The state when decoding ends.
struct Left {
    /// Bytes that were not decoded.
    len: usize,
    too_deep: bool,
}

impl<'de> de_flavors::Flavor<'de> for Take<'de> {
    type Remainder = Left;
    type Source = &'de [u8];

    #[inline]
    fn pop(&mut self) -> postcard::Result<u8> {
        self.too_deep |= self.bottom.abs_diff(stack_pointer()) > MAX_STACK;
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

/// Approximately the address of the stack.
#[inline]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
