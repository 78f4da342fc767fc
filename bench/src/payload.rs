//! What messages contain: a stamp, and bytes whose sum is checked where they arrive.

use crate::error::{Error, Result};

/// The smallest message: a stamp and nothing else.
pub const MIN_SIZE: usize = size_of::<u64>();

/// The content of all messages of one size. Every byte is written anew for each message, and read by its receiver.
pub struct Payload {
    bytes: Vec<u8>,
    /// Of everything behind the stamp.
    sum: u64,
}

impl Payload {
    /// Messages of `size` bytes, at least [`MIN_SIZE`].
    pub fn new(size: usize) -> Self {
        let bytes: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(131) >> 3) as u8 ^ at as u8).collect();
        let sum = sum(&bytes[MIN_SIZE..]);
        Self { bytes, sum }
    }

    /// Bytes of a message.
    #[inline]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The message with this stamp.
    #[inline]
    pub fn stamped(&mut self, stamp: u64) -> &[u8] {
        self.bytes[..MIN_SIZE].copy_from_slice(&stamp.to_ne_bytes());
        &self.bytes
    }

    /// The stamp of a message that arrived, if it is as it was sent.
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
    Error::failed(format_args!("a wrong message of {len} bytes arrived, or the other process is gone"))
}

/// Sum of all bytes, as words.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let words = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_ne_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}
