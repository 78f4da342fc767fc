//! `MessageChannel`: makes two entangled ports.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::end::{End, Parts, Side};
use crate::error::{ChannelError, exhausted};
use crate::lane::Lane;
use crate::layout::{DEFAULT_CAPACITY, MAX_CAPACITY, MIN_CAPACITY};
use crate::port::MessagePort;
use crate::ring::{Consumer, Cursors, Producer};
use crate::segment::Segment;
use crate::sys::Errno;
use crate::sys::socket::MAX_DESCRIPTORS;

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
    /// until more is queued.
    ///
    /// # Errors
    /// [`ChannelError::ResourceExhausted`]: no memory or no descriptors.
    pub fn new() -> Result<Self, ChannelError> {
        Self::with_options(&ChannelOptions::new())
    }

    /// Makes a channel.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and an error for each option that is out of range.
    pub fn with_options(options: &ChannelOptions) -> Result<Self, ChannelError> {
        let capacity = options.capacity;
        if !capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) {
            return Err(ChannelError::BadCapacity(capacity));
        }
        if options.max_handles > MAX_DESCRIPTORS {
            return Err(ChannelError::BadMaxHandles(options.max_handles));
        }
        entangle(options).map_err(|errno| ChannelError::ResourceExhausted(exhausted(errno)))
    }
}

fn entangle(options: &ChannelOptions) -> Result<MessageChannel, Errno> {
    let segment = Segment::create(options.capacity, options.max_handles)?;
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

/// How to make a [`MessageChannel`].
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    capacity: usize,
    max_handles: usize,
}

impl ChannelOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self { capacity: DEFAULT_CAPACITY, max_handles: MAX_DESCRIPTORS }
    }

    /// Bytes that each direction can hold: a power of two from 4 KiB to 64 MiB, 64 KiB by default. A message takes
    /// its length rounded up to 8, and 8 more; the longest is 7/16 of the capacity. Memory is used only as it is
    /// touched, but a stream touches all of it in time.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    /// Descriptors that one message may carry: 253, the kernel's limit, by default. A port counts as two, every
    /// other thing as one. 0 makes a channel for data only.
    pub fn max_handles(mut self, count: usize) -> Self {
        self.max_handles = count;
        self
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self::new()
    }
}
