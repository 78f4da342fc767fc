//! The greeting: one packet that brings a message, with ports and buffers, over a plain socket.
//!
//! The packet is a header and the payload of a carrier record, the descriptors beside it. It is answered by one word.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use bytemuck::{Pod, Zeroable, pod_read_unaligned};

use crate::capsule::{Arrival, Table};
use crate::error::{BadTransfer, CloseReason, PostErrorKind, Rejection, exhausted};
use crate::layout::VERSION;
use crate::port::MessagePort;
use crate::port::baggage::Baggage;
use crate::port::message::Message;
use crate::port::transfer::TransferRef;
use crate::sys::socket::MAX_DESCRIPTORS;
use crate::sys::{Errno, socket};

const MAGIC: u64 = u64::from_le_bytes(*b"msgphi!\0");
/// Most bytes of data in a greeting.
pub(crate) const MAX_DATA: usize = 32 << 10;
/// Most bytes of a greeting packet: data, and the largest table that 253 descriptors can need.
const MAX_PACKET: usize = 64 << 10;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Header {
    magic: u64,
    version: u32,
    reserved: u32,
}

/// The answer to a greeting.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Answer {
    magic: u64,
    version: u32,
    accepted: u32,
}

/// Why a greeting was not received.
#[derive(Debug)]
pub(crate) enum BadGreeting {
    /// Nothing there yet.
    NotYet,
    /// The other side went away without a word.
    Silent,
    /// Not a greeting.
    Malformed,
    Version(u32),
    Contents(BadTransfer),
    Exhausted(Errno),
}

/// Sends `data` and `list`, all or nothing. What was on the list is detached by the caller, when nothing can fail any
/// more; dropped instead, it stays as it was.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    data: &[u8],
    list: &[TransferRef<'a>],
) -> Result<Baggage<'a>, PostErrorKind> {
    let mut baggage = Baggage::check(list, None)?;
    if data.len() > MAX_DATA {
        return Err(PostErrorKind::TooLarge { len: data.len(), max: MAX_DATA });
    }
    if baggage.handles() > MAX_DESCRIPTORS {
        return Err(PostErrorKind::TooManyHandles { handles: baggage.handles(), max: MAX_DESCRIPTORS });
    }
    let out_of = |errno| PostErrorKind::ResourceExhausted(exhausted(errno));
    let mut table = Vec::new();
    baggage.write_table(data.len(), |part| table.extend_from_slice(part));
    let header = Header { magic: MAGIC, version: VERSION, reserved: 0 };
    let padding = [0; 8];
    let parts = [
        IoSlice::new(bytemuck::bytes_of(&header)),
        IoSlice::new(data),
        IoSlice::new(&padding[..data.len().next_multiple_of(8) - data.len()]),
        IoSlice::new(&table),
    ];
    socket::send(socket, &parts, &baggage.descriptors().collect::<Vec<_>>()).map_err(|errno| match errno {
        Errno::EPIPE | Errno::ECONNRESET => PostErrorKind::PeerGone(CloseReason::Closed),
        errno => out_of(errno),
    })?;
    Ok(baggage)
}

/// Receives what [`send`] sent; does not wait for it.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Message, BadGreeting> {
    let mut packet = vec![0; MAX_PACKET];
    let received = match socket::take(socket, &mut packet, MAX_DESCRIPTORS) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Err(BadGreeting::NotYet),
        Err(Errno::ECONNRESET | Errno::EPIPE) => return Err(BadGreeting::Silent),
        Err(errno) => return Err(BadGreeting::Exhausted(errno)),
    };
    if received.len == 0 {
        return Err(BadGreeting::Silent);
    }
    if received.cut || received.len < size_of::<Header>() {
        return Err(BadGreeting::Malformed);
    }
    let (header, payload) = packet[..received.len].split_at(size_of::<Header>());
    let header: Header = pod_read_unaligned(header);
    if header.magic != MAGIC {
        return Err(BadGreeting::Malformed);
    }
    if header.version != VERSION {
        return Err(BadGreeting::Version(header.version));
    }
    let mut message = Message::from(payload.to_vec());
    let table = Table::cut_off(&mut message.data).map_err(|_| BadGreeting::Malformed)?;
    if table.body_len().is_some() {
        return Err(BadGreeting::Malformed);
    }
    if received.descriptors.len() != table.handles() {
        // Cut by a shortage of ours, or never complete.
        let short = received.descriptors_cut;
        return Err(if short { BadGreeting::Exhausted(Errno::EMFILE) } else { BadGreeting::Malformed });
    }
    let mut arrival = Arrival::default();
    if let Err(rejection) = table.adopt(received.descriptors, None, &mut arrival) {
        arrival.close();
        return Err(match rejection {
            Rejection::Invalid(bad) => BadGreeting::Contents(bad),
            Rejection::Shortage(errno) => BadGreeting::Exhausted(errno),
        });
    }
    message.take_transferred_of(arrival.transferred, MessagePort::from_parts);
    Ok(message)
}

/// Tells whether a greeting was accepted, and which version is spoken here. A client that has gone does not matter.
pub(crate) fn answer(socket: BorrowedFd<'_>, accepted: bool) {
    let answer = Answer { magic: MAGIC, version: VERSION, accepted: accepted.into() };
    let _ = socket::send(socket, &[IoSlice::new(bytemuck::bytes_of(&answer))], &[]);
}

/// The answer, if it has come: accepted or not, and the version spoken there. `None`: what came is no answer.
pub(crate) fn read_answer(socket: BorrowedFd<'_>) -> Result<Option<(bool, u32)>, Errno> {
    let mut answer = Answer::zeroed();
    let received = socket::take(socket, bytemuck::bytes_of_mut(&mut answer), 0)?;
    let whole = received.len == size_of::<Answer>() && answer.magic == MAGIC;
    Ok(whole.then_some((answer.accepted == 1, answer.version)))
}
