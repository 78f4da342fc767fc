//! Messages of plain data: values whose bytes are the message ([`bytemuck`]), without an encoding.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io;

use bytemuck::{AnyBitPattern, NoUninit};

use super::message::Message;
use super::post::IfFull;
use super::{MessagePort, SendHalf};
use crate::error::PostDataError;

impl MessagePort {
    /// Posts a value whose bytes are the message: a number, an array, or a `repr(C)` struct without padding
    /// (`#[derive(NoUninit)]` or `Pod` of [`bytemuck`]). It arrives as [`Message::plain`].
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// port1.post_plain(&[1.5_f32, -2.0])?;
    /// let message = port2.recv()?;
    /// assert_eq!(message.plain::<[f32; 2]>()?, [1.5, -2.0]);
    /// assert_eq!(*message.plain_slice::<f32>()?, [1.5, -2.0]);
    /// assert!(message.plain::<f32>().is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) without a transfer list.
    #[inline]
    pub fn post_plain<T: NoUninit>(&self, value: &T) -> Result<(), PostDataError> {
        self.sender.post_plain(value)
    }

    /// Posts a slice of such values, which arrives as [`Message::plain_slice`].
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) without a transfer list.
    #[inline]
    pub fn post_plain_slice<T: NoUninit>(&self, values: &[T]) -> Result<(), PostDataError> {
        self.sender.post_plain_slice(values)
    }
}

impl SendHalf {
    /// See [`MessagePort::post_plain`].
    #[inline]
    pub fn post_plain<T: NoUninit>(&self, value: &T) -> Result<(), PostDataError> {
        self.post_data(bytemuck::bytes_of(value), IfFull::Grow)
    }

    /// See [`MessagePort::post_plain_slice`].
    #[inline]
    pub fn post_plain_slice<T: NoUninit>(&self, values: &[T]) -> Result<(), PostDataError> {
        self.post_data(bytemuck::cast_slice(values), IfFull::Grow)
    }
}

impl Message {
    /// The data as one value of a type for which every bit pattern is valid (`AnyBitPattern` or `Pod` of [`bytemuck`]).
    ///
    /// # Errors
    /// [`WrongSize`]: the data is not exactly as long as a `T`.
    #[inline]
    pub fn plain<T: AnyBitPattern>(&self) -> Result<T, WrongSize> {
        bytemuck::try_pod_read_unaligned(&self.data)
            .map_err(|_| WrongSize { len: self.data.len(), size: size_of::<T>() })
    }

    /// The data as a slice of such values, in place where its address is aligned for them, else copied.
    ///
    /// # Errors
    /// [`WrongSize`]: the data is not a whole number of `T`s.
    pub fn plain_slice<T: AnyBitPattern>(&self) -> Result<Cow<'_, [T]>, WrongSize> {
        let (len, size) = (self.data.len(), size_of::<T>());
        if len == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        if size == 0 || !len.is_multiple_of(size) {
            return Err(WrongSize { len, size });
        }
        Ok(match bytemuck::try_cast_slice(&self.data) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => Cow::Owned(self.data.chunks_exact(size).map(bytemuck::pod_read_unaligned).collect()),
        })
    }
}

/// The data of a message does not have the size of the requested type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongSize {
    /// Bytes of data.
    pub len: usize,
    /// Bytes of the type.
    pub size: usize,
}

impl fmt::Display for WrongSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has {} bytes, where values of {} bytes were expected", self.len, self.size)
    }
}

impl std::error::Error for WrongSize {}

impl From<WrongSize> for io::Error {
    fn from(error: WrongSize) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
