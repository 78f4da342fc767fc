//! The contents of messages: a stamp, and bytes whose sum the receiver checks.

use crate::error::{Error, Result};

/// Size of the smallest message in bytes: that of a stamp.
pub const MIN_SIZE: usize = size_of::<u64>();

/// The contents of all messages of one size. The sender copies every byte anew for each message, and the receiver reads
/// every byte.
pub struct Payload {
    bytes: Vec<u8>,
    /// Sum of the bytes behind the stamp.
    sum: u64,
}

impl Payload {
    /// Creates the contents of messages of `size` bytes, which must be at least [`MIN_SIZE`].
    pub fn new(size: usize) -> Self {
        let bytes: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(131) >> 3) as u8 ^ at as u8).collect();
        let sum = sum(&bytes[MIN_SIZE..]);
        Self { bytes, sum }
    }

    /// Returns the size of a message in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the message with this stamp.
    #[inline]
    pub fn stamped(&mut self, stamp: u64) -> &[u8] {
        self.bytes[..MIN_SIZE].copy_from_slice(&stamp.to_ne_bytes());
        &self.bytes
    }

    /// Checks the length and the sum of a received message and returns its stamp.
    #[inline]
    pub fn stamp_of(&self, data: &[u8]) -> Result<u64> {
        match data.split_first_chunk() {
            Some((stamp, rest)) if data.len() == self.size() && sum(rest) == self.sum => Ok(u64::from_ne_bytes(*stamp)),
            _ => Err(wrong(data.len())),
        }
    }
}

#[cold]
fn wrong(len: usize) -> Error {
    Error::failed(format_args!("a wrong message of {len} bytes arrived, or the other process has gone"))
}

/// Returns a checksum over `bytes` that reads all of them, eight at a time.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}
