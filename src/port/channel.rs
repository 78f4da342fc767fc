//! `MessageChannel`: creates two entangled ports.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use super::MessagePort;
use super::transfer::TransferRef;
use crate::end::lane::Lane;
use crate::end::{End, Parts, Side};
use crate::error::{ChannelError, PostErrorKind, Refusal, exhausted};
use crate::layout::{
    DEFAULT_CACHED_BUFFERS, DEFAULT_CACHED_BYTES, DEFAULT_CAPACITY, DEFAULT_MAX_CAPACITY, Excess, Limits,
    MAX_MESSAGE_LEN,
};
use crate::queue::ring::{Consumer, Cursors, Producer};
use crate::queue::segment::{MAX_NAME, Segment};
use crate::sys::socket::MAX_DESCRIPTORS;
use crate::sys::{Errno, io_error, process};

/// Two entangled ports: a message that is posted on one is received on the other.
///
/// The standard's [`MessageChannel`](https://html.spec.whatwg.org/multipage/web-messaging.html#message-channels). The
/// channel is no more than the two ports: take them out of it.
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
    /// The first port.
    pub port1: MessagePort,
    /// The second port, its peer.
    pub port2: MessagePort,
}

impl MessageChannel {
    /// Creates a channel with the default options.
    ///
    /// It takes three descriptors, since the two ports share the memory file, and 6 KiB of memory, or 15 KiB once both
    /// directions have carried a message; more only as more is queued. A program with very many channels may need
    /// [`raise_descriptor_limit`].
    ///
    /// # Errors
    /// [`ChannelError::ResourceExhausted`]: the system has no memory or no descriptors left.
    pub fn new() -> Result<Self, ChannelError> {
        ChannelOptions::new().create()
    }
}

/// Creates a segment and a lane, and a port at each end of them.
pub(crate) fn entangle(limits: Limits, name: &str) -> Result<MessageChannel, Errno> {
    let segment = Segment::create(limits, name)?;
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

impl MessagePort {
    /// Replaces the channel of this port by a new one, and returns this side's end of it: for a port that a stranger
    /// made or held.
    ///
    /// The process that makes a channel, and every process that a port travels through, can keep duplicates of its
    /// descriptors. With them it can take what is sent over the channel, or receive on the socket of this end for as
    /// long as it likes; a receive of this process then waits, past its timeout. This side's end of the new channel
    /// never leaves this process, so nobody can delay its receives. A stranger that also kept duplicates of the peer's
    /// end can take the other end before the peer does, and is then the peer.
    ///
    /// The new channel has the limits of the old one. Its other end is posted over the old port, as a message without
    /// data; then the old port closes. The peer must expect that:
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let MessageChannel { port1: received, port2: port } = MessageChannel::new()?;
    /// let renewed = received.renew()?;
    /// renewed.post_message(b"hello", [])?;
    ///
    /// // At the peer:
    /// let port = port.recv()?.ports.remove(0);
    /// assert_eq!(port.recv()?.data, b"hello");
    /// # Ok(()) }
    /// ```
    ///
    /// What is queued in the old port is dropped unread, so call this before anything else. It makes no receive on the
    /// old channel, and waits for nobody.
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message) with a port on the transfer list, which takes two descriptors; or
    /// the system has no memory or no descriptors for the new channel. The port is in the error.
    pub fn renew(self) -> Result<Self, RenewError> {
        match self.post_new_channel() {
            Ok(renewed) => {
                // A detached handle drops nothing of its queue: that could mean receiving on the lane. What is queued
                // goes with the socket and the segment.
                self.end().close();
                self.end().detach();
                Ok(renewed)
            }
            Err(kind) => Err(RenewError::new(kind, self)),
        }
    }

    /// Posts an end of a new channel with the limits of this one, and returns the other end.
    fn post_new_channel(&self) -> Result<Self, PostErrorKind> {
        let shortage = |errno| PostErrorKind::ResourceExhausted(exhausted(errno));
        let MessageChannel { port1, port2 } = {
            let segment = self.end().segment();
            entangle(*segment.limits(), &segment.name()).map_err(shortage)?
        };
        self.post_message_detaching(b"", &[TransferRef::Port(&port2)])?;
        Ok(port1)
    }
}

/// [`MessagePort::renew`] failed: it gives back the port, unchanged.
pub type RenewError = Refusal<PostErrorKind, MessagePort>;

/// Raises the limit of open descriptors of this process to `wanted`, or as far as the hard limit allows (setrlimit(2)).
/// Returns the limit, which is never lowered. Most systems start a program with a limit of 1024.
///
/// A port takes two descriptors, and a pair within one process three. One more is taken by each buffer that is kept for
/// reuse (by default up to eight in each direction), by each buffer that is held, and by each queue that has grown.
/// Messages that have not been received may contain as many descriptors again, counted over all processes of the user.
/// Programs that this process starts afterwards inherit the limit; `select(2)` does not work with descriptors from 1024
/// on.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limit = messageport::raise_descriptor_limit(4096)?;
/// println!("room for some {} pairs", limit / 3);
/// # Ok(()) }
/// ```
///
/// # Errors
/// The system's error of setrlimit(2).
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    process::raise_descriptor_limit(wanted).map_err(io_error)
}

/// The options of a [`MessageChannel`].
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
    /// `limits.max_capacity` was set, and does not follow the capacity.
    bounded: bool,
    name: String,
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
        Self { limits, bounded: false, name: String::new() }
    }

    /// A name that tells the channel from others: at most 32 bytes, without a zero byte. By default there is none.
    ///
    /// It is part of the names of the channel's memory files, which `lsof`, `/proc/PID/fd` and `/proc/PID/maps` show as
    /// `/memfd:messageport:NAME`, and of the `Debug` output of its ports, in every process that they travel to. It
    /// identifies nothing: channels can have the same name, and a stranger's channel any name. A channel that a
    /// [`Listener`](crate::Listener) makes for a client has none.
    ///
    /// ```
    /// # use messageport::{ChannelOptions, MessageChannel};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = ChannelOptions::new().name("camera").create()?;
    /// assert!(format!("{port1:?}").contains("camera"));
    /// # drop(port2);
    /// # Ok(()) }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The capacity of each direction before it grows, in bytes: a power of two from 4 KiB to 64 MiB, by default 64
    /// KiB. A message takes its length, rounded up to a multiple of 8, and 8 more bytes; a message longer than 7/16 of
    /// the capacity makes the direction grow. Memory is allocated when it is first touched; a stream touches all of it
    /// in time.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.limits.capacity = bytes;
        self
    }

    /// The most bytes of data that wait in each direction, wherever they lie: up to 1 GiB, by default 64 MiB, or the
    /// capacity if that is more. If it equals the capacity, the queue does not grow.
    ///
    /// A direction grows when [`post_message`](MessagePort::post_message) or [`reserve`](MessagePort::reserve) finds it
    /// full, or its ring too small for the message: it continues in a ring of at least twice the size, a power of two,
    /// while all its rings together stay within this limit. Each new ring costs the sender eight system calls and the
    /// page faults of the memory, and both processes a descriptor while it is in use. When everything has been read,
    /// the next post returns to the first ring, and the memory of the others is released.
    /// [`post_message_wait`](MessagePort::post_message_wait) grows to no more than 1 MiB, or as far as its message
    /// needs, so that a stream stays in the cache. A direction that grew for such a post, or for a long message,
    /// returns after about 1024 posts in a row that the first ring would have had room for.
    ///
    /// A message that is longer than 7/16 of the largest ring that the limit allows travels in a buffer, which counts
    /// too. If even that exceeds the limit, the message can be posted while no other such message waits and at most
    /// 1/8 of the present ring is unread; behind it the queue does not grow. Buffers on transfer lists do not count:
    /// [`Queued::transferred`](crate::Queued::transferred) shows them.
    ///
    /// A ring of 16 MiB or more is compared with the memory that the system and the memory cgroups of the process
    /// leave, and a post that would need more returns [`ResourceExhausted`](crate::PostErrorKind::ResourceExhausted).
    /// The memory of a ring is taken as it is first touched. So smaller rings, or a ring that fills while other
    /// programs take the same memory, can exceed a memory cgroup, and the kernel then kills a process of it. Where
    /// memory is limited, as in a container, set this limit so that both directions of all channels fit.
    pub fn max_capacity(mut self, bytes: usize) -> Self {
        self.limits.max_capacity = bytes;
        self.bounded = true;
        self
    }

    /// The number of descriptors that one message may carry: by default 253, which is the kernel's limit. A port counts
    /// as two, any other item as one. With 0 the channel carries only data.
    pub fn max_handles(mut self, count: usize) -> Self {
        self.limits.max_handles = count;
        self
    }

    /// The maximum length of the data of one message, in bytes: up to 1 GiB, which is the default. For more, transfer a
    /// [`TransferBuffer`](crate::TransferBuffer).
    pub fn max_message_len(mut self, bytes: usize) -> Self {
        self.limits.max_message_len = bytes;
        self
    }

    /// The number of buffers that each direction keeps for reuse: up to 64, by default 8. Each costs both processes a
    /// descriptor and a mapping, and its memory stays allocated; see [`MessagePort::buffer`].
    pub fn cached_buffers(mut self, count: usize) -> Self {
        self.limits.cached_buffers = count;
        self
    }

    /// The total size of the buffers that a direction keeps for reuse, in bytes: up to 1 TiB, by default 256 MiB. A
    /// buffer that would exceed it is posted and not kept.
    pub fn cached_bytes(mut self, bytes: u64) -> Self {
        self.limits.cached_bytes = bytes;
        self
    }

    /// Creates a channel with these options.
    ///
    /// # Errors
    /// Those of [`MessageChannel::new`], and an error for an option that is out of range.
    pub fn create(&self) -> Result<MessageChannel, ChannelError> {
        entangle(self.checked()?, &self.name).map_err(|errno| ChannelError::ResourceExhausted(exhausted(errno)))
    }

    /// The limits of the channel.
    ///
    /// # Errors
    /// An option is out of range.
    pub(crate) fn checked(&self) -> Result<Limits, ChannelError> {
        let limits = self.limits();
        if self.name.len() > MAX_NAME || self.name.contains('\0') {
            return Err(ChannelError::BadName);
        }
        Err(match limits.check() {
            None => return Ok(limits),
            Some(Excess::Capacity) => ChannelError::BadCapacity(limits.capacity),
            Some(Excess::MaxCapacity) => ChannelError::BadMaxCapacity(limits.max_capacity),
            Some(Excess::Handles) => ChannelError::BadMaxHandles(limits.max_handles),
            Some(Excess::MessageLen) => ChannelError::BadMaxMessageLen(limits.max_message_len),
            Some(Excess::CachedBuffers) => ChannelError::BadCachedBuffers(limits.cached_buffers),
            Some(Excess::CachedBytes) => ChannelError::BadCachedBytes(limits.cached_bytes),
        })
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
