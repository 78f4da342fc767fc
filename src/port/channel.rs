//! `MessageChannel`: makes two entangled ports.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::MessagePort;
use crate::end::lane::Lane;
use crate::end::{End, Parts, Side};
use crate::error::{ChannelError, exhausted};
use crate::layout::{
    DEFAULT_CACHED_BUFFERS, DEFAULT_CACHED_BYTES, DEFAULT_CAPACITY, DEFAULT_MAX_CAPACITY, Excess, Limits,
    MAX_MESSAGE_LEN,
};
use crate::queue::ring::{Consumer, Cursors, Producer};
use crate::queue::segment::Segment;
use crate::sys::socket::MAX_DESCRIPTORS;
use crate::sys::{Errno, process};

/// Two entangled ports: what is posted on one is received on the other.
///
/// The standard's [`MessageChannel`](https://html.spec.whatwg.org/multipage/comms.html#message-channels). Take the
/// ports out of it; the channel itself is nothing more than the two.
///
/// ```
/// # use messageport::MessageChannel;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// port1.post_message(b"hello", [])?;
/// assert_eq!(port2.recv()?.data, b"hello");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct MessageChannel {
    /// One end.
    pub port1: MessagePort,
    /// The other end, its equal.
    pub port2: MessagePort,
}

impl MessageChannel {
    /// Makes a channel with the default options.
    ///
    /// It takes three descriptors of the process (the two ports share the memory file) and about 12 KiB of memory
    /// until more is queued. For very many of them there is [`raise_descriptor_limit`].
    ///
    /// # Errors
    /// [`ChannelError::ResourceExhausted`]: no memory or no descriptors.
    pub fn new() -> Result<Self, ChannelError> {
        ChannelOptions::new().create()
    }
}

fn entangle(limits: Limits) -> Result<MessageChannel, Errno> {
    let segment = Segment::create(limits)?;
    let (lane1, lane2) = Lane::pair()?;
    let port = |segment, lane, side| {
        let end = Arc::new(End::new(segment, lane, side));
        MessagePort::from_parts(Parts {
            producer: Producer::new(end.outgoing().clone(), Cursors::START),
            consumer: Consumer::new(end.incoming().clone(), Cursors::START),
            end,
        })
    };
    Ok(MessageChannel { port1: port(segment.clone(), lane1, Side::A), port2: port(segment, lane2, Side::B) })
}

/// Lets this process have `wanted` descriptors open, or as many as its hard limit allows; most systems start a program
/// with 1024. Returns how many it may have now. It never lowers the limit.
///
/// A port takes two descriptors, or three a pair if both are in one process; one more for each buffer that is kept to be
/// used again (eight a direction by default), each buffer that is held, and each queue that has grown. As many again may
/// be in messages that nobody has received yet, of all processes of the user together. Programs that are started from
/// here on inherit the limit; one that uses `select(2)` cannot use descriptors from 1024 on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = messageport::raise_descriptor_limit(4096)?;
/// println!("room for some {} pairs", limit / 3);
/// # Ok(()) }
/// ```
///
/// # Errors
/// The system refuses (`setrlimit(2)`).
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    process::raise_descriptor_limit(wanted).map_err(process::io_error)
}

/// How to make a [`MessageChannel`].
///
/// ```
/// # use messageport::{ChannelOptions, MessageChannel};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = ChannelOptions::new().capacity(1 << 20).create()?;
/// # drop((port1, port2));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    limits: Limits,
    /// `limits.max_capacity` was chosen, and does not follow the capacity.
    bounded: bool,
}

impl ChannelOptions {
    /// The defaults.
    pub fn new() -> Self {
        let limits = Limits {
            capacity: DEFAULT_CAPACITY,
            max_capacity: DEFAULT_MAX_CAPACITY,
            max_handles: MAX_DESCRIPTORS,
            max_message_len: MAX_MESSAGE_LEN,
            cached_buffers: DEFAULT_CACHED_BUFFERS,
            cached_bytes: DEFAULT_CACHED_BYTES,
        };
        Self { limits, bounded: false }
    }

    /// Bytes that each direction can hold before it grows: a power of two from 4 KiB to 64 MiB, 64 KiB by default. A
    /// message takes its length rounded up to 8, and 8 more; what is longer than 7/16 of the capacity travels in a buffer.
    /// Memory is used only as it is touched, but a stream touches all of it in time.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.limits.capacity = bytes;
        self
    }

    /// Bytes that each direction may grow to, up to 1 GiB; 64 MiB by default, or the capacity if that is more. With the
    /// capacity itself the queue does not grow.
    ///
    /// A direction grows when [`post_message`](MessagePort::post_message) or [`reserve`](MessagePort::reserve) finds
    /// it full: it goes on in a ring of twice the size, as often as all its rings together stay within this limit.
    /// Each one costs the poster seven system calls and the page faults of its memory, and both processes a descriptor
    /// while it is in use. When everything has been read, the next post goes back to the first ring, and the
    /// memory is given back.
    /// [`post_message_wait`](MessagePort::post_message_wait) waits instead, so that a stream stays in the cache.
    pub fn max_capacity(mut self, bytes: usize) -> Self {
        self.limits.max_capacity = bytes;
        self.bounded = true;
        self
    }

    /// Descriptors that one message may carry: 253, the kernel's limit, by default. A port counts as two, every
    /// other thing as one. 0 makes a channel for data only.
    pub fn max_handles(mut self, count: usize) -> Self {
        self.limits.max_handles = count;
        self
    }

    /// Bytes of data that one message may have: up to 1 GiB, which is the default. For more there is
    /// [`TransferBuffer`](crate::TransferBuffer).
    pub fn max_message_len(mut self, bytes: usize) -> Self {
        self.limits.max_message_len = bytes;
        self
    }

    /// Buffers that each direction keeps to use again, up to 64; 8 by default, 0 for none. Each costs both processes a
    /// descriptor and a mapping, and its memory stays allocated; see [`MessagePort::buffer`].
    pub fn cached_buffers(mut self, count: usize) -> Self {
        self.limits.cached_buffers = count;
        self
    }

    /// Bytes that these buffers of a direction may have together, up to 1 TiB; 256 MiB by default. A buffer that would be
    /// too much is posted without being kept.
    pub fn cached_bytes(mut self, bytes: u64) -> Self {
        self.limits.cached_bytes = bytes;
        self
    }

    /// Makes a channel.
    ///
    /// # Errors
    /// As for [`MessageChannel::new`], and an error for each option that is out of range.
    pub fn create(&self) -> Result<MessageChannel, ChannelError> {
        let limits = self.limits();
        match limits.check() {
            None => entangle(limits).map_err(|errno| ChannelError::ResourceExhausted(exhausted(errno))),
            Some(Excess::Capacity) => Err(ChannelError::BadCapacity(limits.capacity)),
            Some(Excess::MaxCapacity) => Err(ChannelError::BadMaxCapacity(limits.max_capacity)),
            Some(Excess::Handles) => Err(ChannelError::BadMaxHandles(limits.max_handles)),
            Some(Excess::MessageLen) => Err(ChannelError::BadMaxMessageLen(limits.max_message_len)),
            Some(Excess::CachedBuffers) => Err(ChannelError::BadCachedBuffers(limits.cached_buffers)),
            Some(Excess::CachedBytes) => Err(ChannelError::BadCachedBytes(limits.cached_bytes)),
        }
    }

    fn limits(&self) -> Limits {
        let Limits { capacity, max_capacity, .. } = self.limits;
        let max_capacity = if self.bounded { max_capacity } else { max_capacity.max(capacity) };
        Limits { max_capacity, ..self.limits }
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self::new()
    }
}
