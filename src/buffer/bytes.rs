//! `BufferBytes`: the bytes of a transfer buffer or a shared buffer, accessed by copying.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Deref;

use bytemuck::Pod;

use super::TransferBuffer;
use super::cursor::BufferCursor;
use super::shared::SharedBuffer;
use crate::error::{BufferError, out_of_memory};

/// The bytes of a [`TransferBuffer`] or a [`SharedBuffer`].
///
/// Another process may write to them at any time, so there is no safe slice of them; they are copied out and in. (The
/// bytes of a [`FrozenBuffer`](crate::FrozenBuffer) are a slice.)
///
/// Both buffers dereference to `dyn BufferBytes`. So the methods below are called on a buffer without importing this
/// trait, and a function that takes a `&dyn BufferBytes` accepts either buffer. No other type can implement it.
///
/// ```
/// # use messageport::{BufferBytes, SharedBuffer, TransferBuffer};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// fn checksum(bytes: &dyn BufferBytes) -> Result<u8, messageport::BufferError> {
///     Ok(bytes.to_vec()?.iter().fold(0, |sum, byte| sum ^ byte))
/// }
/// let (mine, ours) = (TransferBuffer::new(100)?, SharedBuffer::new(100)?);
/// mine.write_value(8, &7_u32)?;
/// ours.copy_from_slice(&mine.to_vec()?)?;
/// assert_eq!(checksum(&*mine)?, 7);
/// assert_eq!(checksum(&*ours)?, 7);
/// # Ok(()) }
/// ```
pub trait BufferBytes: fmt::Debug + sealed::Sealed {
    /// Bytes in the buffer.
    fn len(&self) -> usize;

    /// True if there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes at `offset` out, as many as `into` has.
    ///
    /// # Errors
    /// Those of the buffer's method of this name. On an error nothing was copied.
    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError>;

    /// Copies `from` in, at `offset`.
    ///
    /// # Errors
    /// Those of the buffer's method of this name. On an error nothing was copied.
    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError>;
}

/// Offsets count bytes and need no alignment.
impl dyn BufferBytes + '_ {
    /// Copies all bytes out. `into` must be as long as the buffer.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`] for any other length, and those of [`read_at`](BufferBytes::read_at).
    #[inline]
    pub fn copy_to_slice(&self, into: &mut [u8]) -> Result<(), BufferError> {
        self.check_whole(into.len())?;
        self.read_at(0, into)
    }

    /// Copies all bytes in. `from` must be as long as the buffer.
    ///
    /// # Errors
    /// [`BufferError::OutOfRange`] for any other length, and those of [`write_at`](BufferBytes::write_at).
    #[inline]
    pub fn copy_from_slice(&self, from: &[u8]) -> Result<(), BufferError> {
        self.check_whole(from.len())?;
        self.write_at(0, from)
    }

    /// Returns a copy of all bytes.
    ///
    /// # Errors
    /// Those of [`read_at`](BufferBytes::read_at), and [`ResourceExhausted`](BufferError::ResourceExhausted).
    #[inline]
    pub fn to_vec(&self) -> Result<Vec<u8>, BufferError> {
        let mut bytes = zeroes(self.len())?;
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a value of plain data out, at `offset`.
    ///
    /// # Errors
    /// Those of [`read_at`](BufferBytes::read_at).
    #[inline]
    pub fn read_value<T: Pod>(&self, offset: usize) -> Result<T, BufferError> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value of plain data in, at `offset`.
    ///
    /// # Errors
    /// Those of [`write_at`](BufferBytes::write_at).
    #[inline]
    pub fn write_value<T: Pod>(&self, offset: usize, value: &T) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::bytes_of(value))
    }

    /// Copies values of plain data out, at `offset`, as many as `into` has.
    ///
    /// # Errors
    /// Those of [`read_at`](BufferBytes::read_at).
    #[inline]
    pub fn read_values<T: Pod>(&self, offset: usize, into: &mut [T]) -> Result<(), BufferError> {
        self.read_at(offset, bytemuck::cast_slice_mut(into))
    }

    /// Copies values of plain data in, at `offset`.
    ///
    /// # Errors
    /// Those of [`write_at`](BufferBytes::write_at).
    #[inline]
    pub fn write_values<T: Pod>(&self, offset: usize, from: &[T]) -> Result<(), BufferError> {
        self.write_at(offset, bytemuck::cast_slice(from))
    }

    /// The buffer as a stream of bytes, from its beginning.
    #[inline]
    pub fn cursor(&self) -> BufferCursor<'_> {
        BufferCursor::new(self)
    }

    fn check_whole(&self, len: usize) -> Result<(), BufferError> {
        let buffer_len = self.len();
        if len == buffer_len { Ok(()) } else { Err(BufferError::OutOfRange { offset: 0, len, buffer_len }) }
    }
}

mod sealed {
    /// Keeps other crates from implementing [`BufferBytes`](super::BufferBytes).
    pub trait Sealed {}
    impl Sealed for super::TransferBuffer {}
    impl Sealed for super::SharedBuffer {}
}

impl BufferBytes for TransferBuffer {
    fn len(&self) -> usize {
        TransferBuffer::len(self)
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        TransferBuffer::read_at(self, offset, into)
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        TransferBuffer::write_at(self, offset, from)
    }
}

impl BufferBytes for SharedBuffer {
    fn len(&self) -> usize {
        SharedBuffer::len(self)
    }

    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), BufferError> {
        SharedBuffer::read_at(self, offset, into)
    }

    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), BufferError> {
        SharedBuffer::write_at(self, offset, from)
    }
}

impl Deref for TransferBuffer {
    type Target = dyn BufferBytes;

    #[inline]
    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Deref for SharedBuffer {
    type Target = dyn BufferBytes;

    #[inline]
    fn deref(&self) -> &Self::Target {
        self
    }
}

/// Memory for a copy of `len` bytes, a number that a peer may have chosen.
pub(crate) fn zeroes(len: usize) -> Result<Vec<u8>, BufferError> {
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| BufferError::ResourceExhausted(out_of_memory()))
}
