//! Messages of plain data: values whose bytes are the message ([`bytemuck`]), without an encoding.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io;

use bytemuck::{AnyBitPattern, NoUninit, Pod};

use super::in_place::MessageRef;
use super::message::Message;
use super::post::IfFull;
use super::reserve::Reservation;
use super::{MessagePort, SendHalf};
use crate::error::{BufferError, PostDataError, wrong_size};

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
        self.post_data_or(bytemuck::bytes_of(value), IfFull::Grow)
    }

    /// See [`MessagePort::post_plain_slice`].
    #[inline]
    pub fn post_plain_slice<T: NoUninit>(&self, values: &[T]) -> Result<(), PostDataError> {
        self.post_data_or(bytemuck::cast_slice(values), IfFull::Grow)
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

impl MessageRef<'_> {
    /// The data as one value of plain data, copied out.
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// let mut reservation = port1.reserve(8)?;
    /// reservation.write_value(0, &7_u32)?;
    /// reservation.write_value(4, &8_u32)?;
    /// reservation.commit()?;
    /// assert_eq!(port2.recv_ref()?.plain::<[u32; 2]>()?, [7, 8]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`WrongSize`](BufferError::WrongSize): the data is not exactly as long as a `T`. Those of
    /// [`read_at`](Self::read_at).
    #[inline]
    pub fn plain<T: Pod>(&self) -> Result<T, BufferError> {
        if self.len() != size_of::<T>() {
            return Err(BufferError::WrongSize { len: self.len(), size: size_of::<T>() });
        }
        self.read_value(0)
    }

    /// Copies a value of plain data out, at `offset`, which need not be aligned.
    ///
    /// # Errors
    /// Those of [`read_at`](Self::read_at).
    #[inline]
    pub fn read_value<T: Pod>(&self, offset: usize) -> Result<T, BufferError> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies values of plain data out, at `offset`, as many as `into` has.
    ///
    /// # Errors
    /// Those of [`read_at`](Self::read_at).
    #[inline]
    pub fn read_values<T: Pod>(&self, offset: usize, into: &mut [T]) -> Result<(), BufferError> {
        self.read_at(offset, bytemuck::cast_slice_mut(into))
    }
}

impl Reservation<'_> {
    /// Copies a value of plain data to `offset`, which need not be aligned.
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at).
    #[inline]
    pub fn write_value<T: NoUninit>(&mut self, offset: usize, value: &T) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::bytes_of(value))
    }

    /// Copies values of plain data to `offset`.
    ///
    /// # Errors
    /// Those of [`write_at`](Self::write_at).
    #[inline]
    pub fn write_values<T: NoUninit>(&mut self, offset: usize, values: &[T]) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::cast_slice(values))
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
        wrong_size(f, self.len, self.size)
    }
}

impl std::error::Error for WrongSize {}

impl From<WrongSize> for io::Error {
    fn from(error: WrongSize) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}
