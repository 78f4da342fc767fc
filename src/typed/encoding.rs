//! Encodes a value as the data of a message and decodes it, with postcard and limits against a hostile peer.

use postcard::{Deserializer, Serializer, de_flavors, ser_flavors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::depth::Depth;
use super::{TypedPostErrorKind, things};
use crate::capsule::discard::refusing;
use crate::error::{BadTransfer, BadValue, RecvError};
use crate::port::loan::Loan;
use crate::port::message::Message;

/// Appends the encoding of `value` to `bytes`. Returns the loans of the ports and buffers in it.
#[inline]
pub(crate) fn encode<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> Result<Vec<Loan>, TypedPostErrorKind> {
    let mut serializer = Serializer { output: Append { bytes, depth: Depth::new(), too_deep: false } };
    let (result, list) = things::lending(|| value.serialize(&mut serializer));
    match result {
        _ if serializer.output.too_deep => Err(TypedPostErrorKind::TooDeep),
        Ok(()) => Ok(list),
        Err(_) => Err(TypedPostErrorKind::Unencodable),
    }
}

/// Decodes the value of a received message. Whatever the message carries and the value does not take is closed.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(message: &mut Message) -> Result<T, RecvError> {
    // What a value has taken goes with it if the rest of the value is invalid.
    let decoded = if message.ports.is_empty() {
        things::arriving(message, decode_data)
    } else {
        refusing(|| things::arriving(message, decode_data))
    };
    decoded.map_err(|bad| {
        let data = std::mem::take(&mut message.data);
        message.refuse();
        RecvError::MessageError { reason: BadTransfer::Value(bad), data }
    })
}

#[inline]
fn decode_data<T: DeserializeOwned>(data: &[u8]) -> Result<T, BadValue> {
    let mut deserializer = Deserializer::from_flavor(Take { data, depth: Depth::new(), too_deep: false });
    let value = T::deserialize(&mut deserializer);
    let left = deserializer.finalize().ok();
    match (value, left) {
        (_, Some(Left { too_deep: true, .. })) => Err(BadValue::TooDeep),
        (Ok(_), Some(Left { len: 1.., .. })) => Err(BadValue::TooLong),
        (Ok(value), _) => Ok(value),
        (Err(_), _) => Err(BadValue::Encoding),
    }
}

/// Appends the encoding to a vector and checks the depth of the stack at each step. Every level of a recursive value
/// writes something: which variant of an enum or an option it is, or the length of a sequence or a map.
struct Append<'a> {
    bytes: &'a mut Vec<u8>,
    depth: Depth,
    /// The depth was exceeded. The encoding is worthless, whatever `Serialize` makes of the error.
    too_deep: bool,
}

impl Append<'_> {
    #[inline]
    fn check(&mut self) -> postcard::Result<()> {
        if self.depth.is_exceeded() {
            self.too_deep = true;
            return Err(postcard::Error::SerializeBufferFull);
        }
        Ok(())
    }
}

impl ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.check()?;
        self.bytes.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.check()?;
        self.bytes.extend_from_slice(bytes);
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
    depth: Depth,
    /// The depth was exceeded. From then on there is no more data, whatever `Deserialize` makes of the error.
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
        if self.depth.is_exceeded() {
            self.too_deep = true;
            self.data = &[];
        }
        let (first, rest) = self.data.split_first().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.data = rest;
        Ok(*first)
    }

    /// The most elements for which a sequence allocates in advance: one for each byte that is left. Deeper inside a
    /// value none, since each of its levels could claim all these bytes.
    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(if self.depth.is_shallow() { self.data.len() } else { 0 })
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
