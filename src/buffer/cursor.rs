//! `BufferCursor`: a buffer as a stream of bytes.
#![forbid(unsafe_code)]

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::bytes::BufferBytes;

/// A position in a [`TransferBuffer`](crate::TransferBuffer) or [`SharedBuffer`](crate::SharedBuffer) that advances as
/// bytes are read or written: [`Read`], [`Write`] and [`Seek`]. Every byte is copied once.
///
/// It starts at the beginning of the buffer. Reading and writing stop at the end of the buffer, so that `write_all`
/// returns [`WriteZero`](io::ErrorKind::WriteZero) there; the cursor may be set beyond the end. If the buffer is
/// transferred in the meantime, the error contains a [`BufferError`](crate::BufferError).
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
    bytes: &'a dyn BufferBytes,
    position: u64,
}

impl<'a> BufferCursor<'a> {
    pub(super) fn new(bytes: &'a dyn BufferBytes) -> Self {
        Self { bytes, position: 0 }
    }

    /// The offset of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The part of the next `len` bytes that is inside the buffer: its offset and its length.
    fn next(&self, len: usize) -> (usize, usize) {
        let end = self.bytes.len();
        let start = usize::try_from(self.position).unwrap_or(end).min(end);
        (start, len.min(end - start))
    }
}

impl Read for BufferCursor<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (start, count) = self.next(into.len());
        self.bytes.read_at(start, &mut into[..count])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for BufferCursor<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let (start, count) = self.next(from.len());
        self.bytes.write_at(start, &from[..count])?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for BufferCursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(delta) => (self.bytes.len() as u64).checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
