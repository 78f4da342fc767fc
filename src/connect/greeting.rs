//! The two packets of a meeting, sent over a plain socket: a greeting, and a packet that brings a port.
//!
//! A client's *greeting* is a header with the limits of the channel that the client wants, and data. It carries no
//! descriptors. The listener makes the channel and answers with a *port packet*: a header and the payload of a carrier
//! record, with the descriptors of one port as control data. A *denial* is the header of a port packet alone.
//!
//! The side that makes a lane holds both of its sockets for a moment, and can keep duplicates. A process that receives
//! on a duplicate can make the holder of that socket wait in every receive. So the lane is made by the side that has
//! more to lose: by the listener, which serves other clients, and by the parent of a child process.

use std::io::IoSlice;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;

use bytemuck::{Pod, Zeroable, pod_read_unaligned};

use crate::capsule::arrive::Undeliverable;
use crate::capsule::{Arrival, Arrived, Table};
use crate::error::{BadTransfer, CloseReason, PostErrorKind, Rejection, exhausted};
use crate::layout::{BadPreamble, Limits, SegmentConstants, VERSION};
use crate::port::MessagePort;
use crate::port::baggage::Baggage;
use crate::port::transfer::TransferRef;
use crate::sys::socket::{MAX_DESCRIPTORS, Received};
use crate::sys::{Errno, socket};

/// First word of both packets: `msgphi!` and a zero byte.
const MAGIC: u64 = u64::from_le_bytes(*b"msgphi!\0");
/// Most bytes of data in a greeting, 32 KiB; a longer greeting is not sent.
pub(crate) const MAX_DATA: usize = 32 << 10;
/// Bytes of the header of a greeting, which are the constants of a segment with the limits that the client wants; the
/// data follows.
const GREETING_HEADER: usize = size_of::<SegmentConstants>();
/// Most bytes of a greeting; a longer one is malformed.
const MAX_GREETING: usize = GREETING_HEADER + MAX_DATA;
/// Most bytes of a port packet, 64 KiB: more than the largest table that 253 descriptors can need. A longer packet is
/// malformed.
const MAX_PORT_PACKET: usize = 64 << 10;

/// Start of a port packet. The payload of a carrier record follows.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct PortHeader {
    magic: u64,
    /// The sender's version of the format.
    version: u32,
    /// [`ACCEPTED`] if a port follows; otherwise a [`Denial`]; an unknown one counts as `TurnedAway`.
    answer: u32,
}

/// `PortHeader::answer` in front of a port.
const ACCEPTED: u32 = 1;

/// Why a client gets no port. On the wire, `PortHeader::answer`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Denial {
    /// The client was turned away.
    TurnedAway = 0,
    /// The listener has no memory or descriptors for this client.
    Shortage = 2,
}

const _: () = {
    assert!(size_of::<PortHeader>() == 16);
    assert!(offset_of!(PortHeader, magic) == 0);
    assert!(offset_of!(PortHeader, version) == 8);
    assert!(offset_of!(PortHeader, answer) == 12);
};

/// A greeting that has been received.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// The limits that the client wants, which are in range.
    pub(crate) limits: Limits,
    pub(crate) data: Vec<u8>,
}

/// Why a greeting or a port was not received.
#[derive(Debug)]
pub(crate) enum BadPacket {
    /// No packet has arrived yet.
    NotYet,
    /// The other side hung up without a packet.
    Silent,
    /// The packet is not of the expected kind or contains a value out of range; or it is a denial, but not for a
    /// shortage.
    Malformed,
    /// The listener has no memory or descriptors for this client.
    Overloaded,
    /// The sender uses this version of the format.
    Version(u32),
    /// The port failed the checks.
    Contents(BadTransfer),
    /// A system call failed, for want of memory or descriptors for example.
    Exhausted(Errno),
}

/// Sends a greeting, whole or not at all.
pub(crate) fn send(socket: BorrowedFd<'_>, limits: &Limits, data: &[u8]) -> Result<(), PostErrorKind> {
    if data.len() > MAX_DATA {
        return Err(PostErrorKind::TooLarge { len: data.len(), max: MAX_DATA });
    }
    let header = SegmentConstants::new(MAGIC, limits);
    socket::send(socket, &[IoSlice::new(bytemuck::bytes_of(&header)), IoSlice::new(data)], &[]).map_err(not_sent)
}

/// Receives a greeting that [`send`] sent, without waiting for it. Nothing in it is trusted. A packet with descriptors
/// stays queued, since closing them may wait.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Greeting, BadPacket> {
    let mut packet = buffer(MAX_GREETING)?;
    let peeked = packet_of(|packet| socket::peek(socket, packet, 0), &mut packet)?;
    // There is no room for descriptors, so the kernel reports that they were cut off.
    if peeked.descriptors_cut {
        return Err(BadPacket::Malformed);
    }
    let _ = socket::skip(socket); // this side alone reads, so it is the same packet
    if peeked.cut || packet.len() < size_of::<PortHeader>() {
        return Err(BadPacket::Malformed);
    }
    // A header of another version may have another length; its first words are the same.
    let mut header = SegmentConstants::zeroed();
    let len = packet.len().min(GREETING_HEADER);
    bytemuck::bytes_of_mut(&mut header)[..len].copy_from_slice(&packet[..len]);
    match header.preamble.check(MAGIC) {
        Ok(()) if len == GREETING_HEADER => {}
        Err(BadPreamble::Version(version)) => return Err(BadPacket::Version(version)),
        _ => return Err(BadPacket::Malformed),
    }
    let limits = header.limits();
    if limits.check().is_some() {
        return Err(BadPacket::Malformed);
    }
    packet.drain(..GREETING_HEADER);
    Ok(Greeting { limits, data: packet })
}

/// Sends a port in one packet, whole or not at all. The caller detaches the returned baggage once nothing more can
/// fail; if it drops the baggage instead, the port stays as it was.
pub(crate) fn send_port<'a>(socket: BorrowedFd<'_>, port: &'a MessagePort) -> Result<Baggage<'a>, PostErrorKind> {
    let mut baggage = Baggage::check(&[TransferRef::Port(port)], None)?;
    if baggage.handles() > MAX_DESCRIPTORS {
        return Err(PostErrorKind::TooManyHandles { handles: baggage.handles(), max: MAX_DESCRIPTORS });
    }
    let mut table = Vec::new();
    baggage.write_table(0, |part| table.extend_from_slice(part));
    let header = PortHeader { magic: MAGIC, version: VERSION, answer: ACCEPTED };
    let parts = [IoSlice::new(bytemuck::bytes_of(&header)), IoSlice::new(&table)];
    let descriptors = baggage.descriptors().map_err(not_sent)?;
    socket::send(socket, &parts, &descriptors).map_err(not_sent)?;
    Ok(baggage)
}

/// Receives a port that [`send_port`] sent, without waiting for it. Nothing in the packet is trusted: it is copied
/// once, and everything in it is checked before it is used.
pub(crate) fn receive_port(socket: BorrowedFd<'_>) -> Result<MessagePort, BadPacket> {
    let mut packet = buffer(MAX_PORT_PACKET)?;
    let mut received = packet_of(|packet| socket::take(socket, packet, MAX_DESCRIPTORS), &mut packet)?;
    if received.cut {
        return Err(BadPacket::Malformed);
    }
    let Some((header, payload)) = packet.split_at_checked(size_of::<PortHeader>()) else {
        return Err(BadPacket::Malformed);
    };
    let header: PortHeader = pod_read_unaligned(header);
    if header.magic != MAGIC {
        return Err(BadPacket::Malformed);
    }
    if header.version != VERSION {
        return Err(BadPacket::Version(header.version));
    }
    match header.answer {
        ACCEPTED => {}
        answer if answer == Denial::Shortage as u32 => return Err(BadPacket::Overloaded),
        _ => return Err(BadPacket::Malformed),
    }
    let table = Table::parse(payload).map_err(|_| BadPacket::Malformed)?;
    if table.copies() > 0 {
        return Err(BadPacket::Malformed);
    }
    if received.descriptors.len() != table.handles() {
        // Cut by the kernel for want of free descriptors in this process, or incomplete when it was sent.
        let short = received.descriptors_cut;
        return Err(if short { BadPacket::Exhausted(Errno::EMFILE) } else { BadPacket::Malformed });
    }
    let mut arrival = Arrival::default();
    if let Err(rejection) = table.adopt(&mut received.descriptors, None, &mut arrival, true) {
        arrival.close();
        return Err(match rejection {
            Rejection::Invalid(Undeliverable::Message(bad)) => BadPacket::Contents(bad),
            Rejection::Invalid(Undeliverable::Violation(_)) => BadPacket::Malformed,
            Rejection::Shortage(errno) => BadPacket::Exhausted(errno),
        });
    }
    match arrival.items.pop() {
        Some(Arrived::Port(parts)) if arrival.items.is_empty() => Ok(MessagePort::from_parts(parts)),
        last => {
            arrival.items.extend(last);
            arrival.close();
            Err(BadPacket::Malformed)
        }
    }
}

/// Turns a client away. A client that has hung up does not get the answer, which changes nothing for the listener.
pub(crate) fn refuse(socket: BorrowedFd<'_>, why: Denial) {
    let header = PortHeader { magic: MAGIC, version: VERSION, answer: why as u32 };
    let _ = socket::send(socket, &[IoSlice::new(bytemuck::bytes_of(&header))], &[]);
}

/// Memory for a packet of at most `len` bytes.
fn buffer(len: usize) -> Result<Vec<u8>, BadPacket> {
    let mut packet = Vec::new();
    packet.try_reserve_exact(len).map_err(|_| BadPacket::Exhausted(Errno::ENOMEM))?;
    packet.resize(len, 0);
    Ok(packet)
}

/// Fills `packet` by `receive`, and cuts it to the length of what was received.
fn packet_of(
    mut receive: impl FnMut(&mut [u8]) -> Result<Received, Errno>,
    packet: &mut Vec<u8>,
) -> Result<Received, BadPacket> {
    let received = match receive(packet) {
        // The kernel reports once, in front of what is queued, that the other side has hung up with unread packets.
        Err(Errno::ECONNRESET) => receive(packet),
        received => received,
    };
    let received = received.map_err(|errno| match errno {
        Errno::EAGAIN => BadPacket::NotYet,
        Errno::ECONNRESET | Errno::EPIPE => BadPacket::Silent,
        errno => BadPacket::Exhausted(errno),
    })?;
    packet.truncate(received.len);
    if received.len == 0 { Err(BadPacket::Silent) } else { Ok(received) }
}

fn not_sent(errno: Errno) -> PostErrorKind {
    match errno {
        Errno::EPIPE | Errno::ECONNRESET => PostErrorKind::PeerGone(CloseReason::Closed),
        errno => PostErrorKind::ResourceExhausted(exhausted(errno)),
    }
}
