//! The greeting: a message with ports and buffers in one packet, sent over a plain socket.
//!
//! The packet is a header and the payload of a carrier record, with the descriptors as control data. The listener
//! answers it with a packet of 16 bytes.

use std::io::IoSlice;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;

use bytemuck::{Pod, Zeroable, pod_read_unaligned};

use crate::capsule::arrive::Undeliverable;
use crate::capsule::{Arrival, Table};
use crate::error::{BadTransfer, CloseReason, PostErrorKind, Rejection, exhausted};
use crate::layout::VERSION;
use crate::port::baggage::Baggage;
use crate::port::message::Message;
use crate::port::transfer::{TransferRef, Transferable};
use crate::sys::socket::MAX_DESCRIPTORS;
use crate::sys::{Errno, socket};

/// First word of a greeting and of its answer: `msgphi!` and a zero byte.
const MAGIC: u64 = u64::from_le_bytes(*b"msgphi!\0");
/// Most bytes of data in a greeting, 32 KiB; a longer greeting is not sent.
pub(crate) const MAX_DATA: usize = 32 << 10;
/// Most bytes of a greeting packet, 64 KiB: data and the largest table that 253 descriptors can need. A longer packet
/// is malformed.
const MAX_PACKET: usize = 64 << 10;

/// Start of a greeting packet. The payload of a carrier record follows.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GreetingHeader {
    magic: u64,
    /// The sender's version of the format.
    version: u32,
    /// Zero; not read.
    reserved: u32,
}

/// The packet that answers a greeting.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct AnswerPacket {
    magic: u64,
    /// The listener's version of the format.
    version: u32,
    /// 1 if the listener accepted the port; any other value if it turned the client away.
    accepted: u32,
}

const _: () = {
    assert!(size_of::<GreetingHeader>() == 16);
    assert!(offset_of!(GreetingHeader, magic) == 0);
    assert!(offset_of!(GreetingHeader, version) == 8);
    assert!(offset_of!(GreetingHeader, reserved) == 12);

    assert!(size_of::<AnswerPacket>() == 16);
    assert!(offset_of!(AnswerPacket, magic) == 0);
    assert!(offset_of!(AnswerPacket, version) == 8);
    assert!(offset_of!(AnswerPacket, accepted) == 12);
};

/// A listener's answer to a greeting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The listener has the port.
    Accepted,
    /// The listener turned the client away, or sent something that is no answer.
    Refused,
    /// The listener turned the client away because it uses this version of the format.
    OtherVersion(u32),
}

/// Why a greeting was not received.
#[derive(Debug)]
pub(crate) enum BadGreeting {
    /// No greeting has arrived yet.
    NotYet,
    /// The other side hung up without a greeting.
    Silent,
    /// The packet is not a greeting, or contains no valid table.
    Malformed,
    /// The sender uses this version of the format.
    Version(u32),
    /// A port or buffer in the greeting failed the checks.
    Contents(BadTransfer),
    /// A system call failed, for want of memory or descriptors for example.
    Exhausted(Errno),
}

/// Sends `data` and `list` in one packet, whole or not at all. The caller detaches the returned baggage once nothing
/// more can fail; if it drops the baggage instead, everything on the list stays as it was.
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
    let header = GreetingHeader { magic: MAGIC, version: VERSION, reserved: 0 };
    let padding = [0; 8];
    let parts = [
        IoSlice::new(bytemuck::bytes_of(&header)),
        IoSlice::new(data),
        IoSlice::new(&padding[..data.len().next_multiple_of(8) - data.len()]),
        IoSlice::new(&table),
    ];
    let descriptors = baggage.descriptors().map_err(out_of)?;
    socket::send(socket, &parts, &descriptors).map_err(|errno| match errno {
        Errno::EPIPE | Errno::ECONNRESET => PostErrorKind::PeerGone(CloseReason::Closed),
        errno => out_of(errno),
    })?;
    Ok(baggage)
}

/// Receives a greeting that [`send`] sent, without waiting for it. Nothing in it is trusted: the packet is copied once,
/// and everything in it is checked before it is used.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Message, BadGreeting> {
    let mut packet = vec![0; MAX_PACKET];
    let mut received = match socket::take(socket, &mut packet, MAX_DESCRIPTORS) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Err(BadGreeting::NotYet),
        Err(Errno::ECONNRESET | Errno::EPIPE) => return Err(BadGreeting::Silent),
        Err(errno) => return Err(BadGreeting::Exhausted(errno)),
    };
    if received.len == 0 {
        return Err(BadGreeting::Silent);
    }
    if received.cut || received.len < size_of::<GreetingHeader>() {
        return Err(BadGreeting::Malformed);
    }
    let (header, payload) = packet[..received.len].split_at(size_of::<GreetingHeader>());
    let header: GreetingHeader = pod_read_unaligned(header);
    if header.magic != MAGIC {
        return Err(BadGreeting::Malformed);
    }
    if header.version != VERSION {
        return Err(BadGreeting::Version(header.version));
    }
    let table = Table::parse(payload).map_err(|_| BadGreeting::Malformed)?;
    if table.body_len().is_some() {
        return Err(BadGreeting::Malformed);
    }
    if received.descriptors.len() != table.handles() {
        // Cut by the kernel for want of free descriptors in this process, or incomplete when it was sent.
        let short = received.descriptors_cut;
        return Err(if short { BadGreeting::Exhausted(Errno::EMFILE) } else { BadGreeting::Malformed });
    }
    let mut arrival = Arrival::default();
    if let Err(rejection) = table.adopt(&mut received.descriptors, None, &mut arrival) {
        arrival.close();
        return Err(match rejection {
            Rejection::Invalid(Undeliverable::Message(bad)) => BadGreeting::Contents(bad),
            Rejection::Invalid(Undeliverable::Violation(_)) => BadGreeting::Malformed,
            Rejection::Shortage(errno) => BadGreeting::Exhausted(errno),
        });
    }
    let mut message = Message::from(payload[..table.data_len].to_vec());
    message.extend(arrival.items.into_iter().map(Transferable::from));
    Ok(message)
}

/// Answers a greeting. A client that has hung up does not get the answer, which changes nothing for the listener.
pub(crate) fn answer(socket: BorrowedFd<'_>, accepted: bool) {
    let answer = AnswerPacket { magic: MAGIC, version: VERSION, accepted: accepted.into() };
    let _ = socket::send(socket, &[IoSlice::new(bytemuck::bytes_of(&answer))], &[]);
}

/// Reads the answer to a greeting without waiting. `EAGAIN`: there is none yet.
pub(crate) fn read_answer(socket: BorrowedFd<'_>) -> Result<Answer, Errno> {
    let mut answer = AnswerPacket::zeroed();
    let received = socket::take(socket, bytemuck::bytes_of_mut(&mut answer), 0)?;
    Ok(match answer {
        AnswerPacket { magic, .. } if received.len != size_of::<AnswerPacket>() || magic != MAGIC => Answer::Refused,
        AnswerPacket { accepted: 1, .. } => Answer::Accepted,
        AnswerPacket { version: VERSION, .. } => Answer::Refused,
        AnswerPacket { version, .. } => Answer::OtherVersion(version),
    })
}
