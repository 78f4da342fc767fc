//! `BufferCursor`: a buffer as a stream of bytes.
#![forbid(unsafe_code)]

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::TransferBuffer;
use super::shared::SharedBuffer;
use crate::error::BufferError;

/// A place in a [`TransferBuffer`] or [`SharedBuffer`] that moves on as it is read or written: [`Read`], [`Write`]
/// and [`Seek`]. Every byte is copied once.
///
/// It starts at the beginning. Reading ends at the end of the buffer, and writing does too (`write_all` then says
/// [`WriteZero`](io::ErrorKind::WriteZero)); a cursor may be set behind the end. A buffer that was transferred away
/// meanwhile is an error that holds a [`BufferError`].
///
/// ```
/// # use std::io::{BufRead, BufReader, Seek, Write};
/// # use messageport::TransferBuffer;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let buffer = TransferBuffer::new(100)?;
/// let mut cursor = buffer.cursor();
/// writeln!(cursor, "the first line")?;
/// cursor.rewind()?;
/// let mut line = String::new();
/// BufReader::new(cursor).read_line(&mut line)?;
/// assert_eq!(line, "the first line\n");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BufferCursor<'a> {
    buffer: Buffer<'a>,
    position: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Buffer<'a> {
    Transfer(&'a TransferBuffer),
    Shared(&'a SharedBuffer),
}

impl<'a> BufferCursor<'a> {
    pub(crate) fn new(buffer: Buffer<'a>) -> Self {
        Self { buffer, position: 0 }
    }

    /// The place of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Of `len` bytes, as many as there are from here on, and where that is.
    fn next(&self, len: usize) -> (usize, usize) {
        let end = match self.buffer {
            Buffer::Transfer(buffer) => buffer.len(),
            Buffer::Shared(buffer) => buffer.len(),
        };
        let start = usize::try_from(self.position).unwrap_or(end).min(end);
        (start, len.min(end - start))
    }
}

impl Read for BufferCursor<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (start, count) = self.next(into.len());
        let into = &mut into[..count];
        match self.buffer {
            Buffer::Transfer(buffer) => buffer.read_at(start, into),
            Buffer::Shared(buffer) => buffer.read_at(start, into),
        }?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for BufferCursor<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let (start, count) = self.next(from.len());
        let from = &from[..count];
        match self.buffer {
            Buffer::Transfer(buffer) => buffer.write_at(start, from),
            Buffer::Shared(buffer) => buffer.write_at(start, from),
        }?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for BufferCursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (end, _) = Self { position: u64::MAX, ..*self }.next(0);
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => (end as u64).checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// The length of a copy of the whole buffer is that of the buffer.
pub(crate) fn whole(len: usize, buffer_len: usize) -> Result<(), BufferError> {
    if len == buffer_len { Ok(()) } else { Err(BufferError::OutOfRange { offset: 0, len, buffer_len }) }
}
