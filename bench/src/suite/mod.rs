//! The benchmarks and their subjects.

mod calls;
mod memory;
mod steps;
mod stream;

use std::time::Duration;

use nix::sys::socket::SockType;

use crate::bench::{Bench, Metric, Subject};
use crate::error::{Error, Result};
use crate::limits::futex_word::FutexWord;
use crate::limits::memcpy::Memcpy;
use crate::limits::slot_ring::SlotRing;
use crate::limits::spin_word::SpinWord;
use crate::limits::syscalls::{DescriptorLink, Parcel, create_and_drop};
use crate::limits::with_size;
use crate::link::{Alone, Gaps, Link, Player, RoundTrips, Stream, Wait};
use crate::payload::MIN_SIZE;
use crate::session::Session;
use crate::system::machine::descriptor_limit;
use crate::transport::buffers::{BufferLink, Handover};
use crate::transport::fan::{FanIn, LoopFanIn, PortFan, SocketFan};
use crate::transport::ports::{
    BatchLink, FOREVER, InPlaceLink, OwnedLink, PortLink, ReservedLink, TransferLink, capacity,
};
use crate::transport::sockets::SocketLink;

pub(crate) use calls::counted;
pub(crate) use memory::idle;
pub(crate) use steps::steps;

/// Size of the largest message in bytes.
const MAX_SIZE: usize = 1 << 20;
/// Size of the largest buffer in bytes.
const MAX_BUFFER: usize = 1 << 30;
/// Size in bytes of the largest buffer of which every byte is written and read.
const MAX_TOUCHED: usize = 16 << 20;

/// Returns all benchmarks in the order in which they run.
pub fn suite() -> Vec<Bench> {
    vec![
        rtt(),
        throughput(),
        stream::bench(),
        buffers(),
        wake(),
        create(),
        transfer(),
        fanin(),
        memory::bench(),
        calls::bench(),
    ]
}

/// Returns the constructor of round trips over ports that receive with `recv_into`.
fn port(wait: Wait) -> impl Fn(&Session, usize) -> Result<RoundTrips<PortLink>> {
    move |session, size| PortLink::new(session, size, wait).map(RoundTrips)
}

/// Round trips of messages.
fn rtt() -> Bench {
    let mut bench = Bench::new("rtt", "round trips of messages", Metric::Latency, &[8, 64, 1024]);
    bench.allowed = Some(MIN_SIZE..=MAX_SIZE);
    bench.min_operations = 1000;
    bench.subjects = vec![
        Subject::new(
            "limit",
            "",
            Wait::Spin,
            |session, size| with_size!(size, N => boxed(RoundTrips(SpinWord::<N>::new(session, size)?))),
        ),
        Subject::new("messageport", "recv_into", Wait::Spin, port(Wait::Spin)).against("limit spin"),
        Subject::new("messageport", "recv_ref", Wait::Spin, |session, size| {
            Ok(RoundTrips(InPlaceLink(PortLink::new(session, size, Wait::Spin)?)))
        })
        .against("limit spin"),
        Subject::new("futex", "", Wait::Block, |session, size| FutexWord::new(session, size).map(RoundTrips)),
        Subject::new("messageport", "recv_into", Wait::Block, port(Wait::Block)).against("futex block"),
        Subject::new("messageport", "recv_into", Wait::Default, port(Wait::Default)).against("limit spin"),
        Subject::new("unix seqpacket", "", Wait::Block, |session, size| {
            SocketLink::new(session, size, SockType::SeqPacket, Wait::Block).map(RoundTrips)
        })
        .against("futex block"),
    ];
    bench
}

/// Streams of messages.
fn throughput() -> Bench {
    let mut bench = Bench::new("throughput", "streams of messages", Metric::Rate, &[8, 64, 1024, 65536]);
    bench.allowed = Some(MIN_SIZE..=MAX_SIZE);
    bench.min_operations = 16;
    let stream = |session: &Session, size: usize| PortLink::new(session, size, Wait::Spin);
    bench.subjects = vec![
        Subject::new("memcpy", "", Wait::Spin, |session, size| Memcpy::new(session, size, capacity(size)).map(Stream))
            .sizes(|size| size >= 1024),
        Subject::new(
            "bare-ring",
            "",
            Wait::Spin,
            |session, size| with_size!(size, N => boxed(Stream(SlotRing::<N>::new(session, size, capacity(size))?))),
        ),
        Subject::new("messageport", "recv_into", Wait::Spin, move |session, size| stream(session, size).map(Stream))
            .against("bare-ring spin"),
        Subject::new("messageport", "16 a call, recv_into", Wait::Spin, |session, size| {
            BatchLink::new(session, size).map(Stream)
        })
        .against("bare-ring spin"),
        Subject::new("messageport", "recv", Wait::Spin, move |session, size| {
            Ok(Stream(OwnedLink(stream(session, size)?)))
        })
        .against("bare-ring spin"),
        Subject::new("messageport", "recv_ref", Wait::Spin, move |session, size| {
            Ok(Stream(InPlaceLink(stream(session, size)?)))
        })
        .against("bare-ring spin"),
        Subject::new("messageport", "reserve recv_ref", Wait::Spin, |session, size| {
            ReservedLink::new(session, size).map(Stream)
        })
        .sizes(|size| size >= 1024)
        .against("memcpy spin"),
        Subject::new("unix seqpacket", "", Wait::Block, |session, size| {
            SocketLink::new(session, size, SockType::SeqPacket, Wait::Block).map(Stream)
        })
        .against("bare-ring spin"),
    ];
    bench
}

/// Round trips of buffers.
fn buffers() -> Bench {
    const SIZES: &[usize] = &[4 << 10, 64 << 10, 1 << 20, 16 << 20, 1 << 30];
    let mut bench = Bench::new("buffers", "round trips of transferred buffers", Metric::Latency, SIZES);
    bench.allowed = Some(4096..=MAX_BUFFER);
    let touched = |size: usize| size <= MAX_TOUCHED;
    let passing =
        |parcel| move |session: &Session, size| DescriptorLink::new(session, size, parcel, Wait::Spin).map(RoundTrips);
    let handover = |handover| move |session: &Session, size| BufferLink::new(session, size, handover).map(RoundTrips);
    bench.subjects = vec![
        Subject::new("message", "64 B", Wait::Spin, |session, _| port(Wait::Spin)(session, 64)),
        Subject::new("bare", "pass", Wait::Spin, passing(Parcel::Buffer)),
        Subject::new("messageport", "pass", Wait::Spin, handover(Handover::Pass)).against("message 64 B spin"),
        Subject::new("messageport", "pass, touched", Wait::Spin, handover(Handover::Touch)).sizes(touched),
        Subject::new("messageport", "recycled", Wait::Spin, handover(Handover::Recycled)).against("message 64 B spin"),
        // The time of larger fresh buffers is that of their page faults.
        Subject::new("bare", "fresh", Wait::Spin, passing(Parcel::FreshBuffer)).sizes(touched),
        Subject::new("messageport", "fresh", Wait::Spin, handover(Handover::Fresh))
            .sizes(touched)
            .against("bare fresh spin"),
        Subject::new("messageport", "fresh, touched", Wait::Spin, handover(Handover::FreshTouch)).sizes(touched),
    ];
    bench
}

/// Messages to a waiting receiver, with gaps between them.
fn wake() -> Bench {
    const GAPS_US: [u64; 7] = [1, 3, 10, 30, 100, 1000, 10_000];
    let mut bench = Bench::new("wake", "delay of messages after a gap", Metric::Delay, &[8]);
    bench.min_operations = 2;
    fn gaps<L: Link + 'static>(
        gap: u64,
        link: impl Fn(&Session, usize) -> Result<L> + 'static,
    ) -> impl Fn(&Session, usize) -> Result<Gaps<L>> {
        move |session, size| Ok(Gaps { link: link(session, size)?, gap: gap * 1000 })
    }
    for gap in GAPS_US {
        let ring = gaps(gap, |session, size| SlotRing::<8>::new(session, size, capacity(size)));
        bench.subjects.push(Subject::new("bare-ring", "", Wait::Spin, ring).parameter("gap_us", gap));
        for wait in [Wait::Spin, Wait::Default, Wait::Block] {
            let port = gaps(gap, move |session, size| PortLink::new(session, size, wait));
            let subject = Subject::new("messageport", "recv_into", wait, port).parameter("gap_us", gap);
            bench.subjects.push(subject);
        }
        let socket = gaps(gap, |session, size| SocketLink::new(session, size, SockType::SeqPacket, Wait::Block));
        let subject = Subject::new("unix seqpacket", "", Wait::Block, socket).parameter("gap_us", gap);
        bench.subjects.push(subject);
    }
    bench
}

/// Creation of pairs.
fn create() -> Bench {
    let mut bench = Bench::new("create", "creating and dropping a pair", Metric::Latency, &[0]);
    bench.min_operations = 10;
    bench.subjects = vec![
        Subject::new("bare", "", Wait::None, |_, _| Ok(Alone(create_and_drop))),
        Subject::new("messageport", "", Wait::None, |_, _| {
            Ok(Alone(|| messageport::MessageChannel::new().map(drop).map_err(Error::of("cannot create a channel"))))
        })
        .against("bare"),
    ];
    bench
}

/// Round trips of ports.
fn transfer() -> Bench {
    let mut bench =
        Bench::new("transfer", "round trips of a port that is transferred over another", Metric::Latency, &[8]);
    bench.min_operations = 10;
    for wait in [Wait::Spin, Wait::Block] {
        let bare =
            move |session: &Session, size| DescriptorLink::new(session, size, Parcel::Port, wait).map(RoundTrips);
        bench.subjects.push(Subject::new("bare", "", wait, bare));
        let port = move |session: &Session, _| TransferLink::new(session, wait).map(RoundTrips);
        bench.subjects.push(Subject::new("messageport", "", wait, port).against(format!("bare {}", wait.name())));
    }
    bench
}

/// Streams over many ports to one receiver.
fn fanin() -> Bench {
    let mut bench = Bench::new("fanin", "streams over many ports to one receiver", Metric::Rate, &[64]);
    bench.min_operations = 1000;
    for count in [1, 10, 100, 1000] {
        let sockets = move |session: &Session, size| FanIn::new(SocketFan::new(session, count)?, size, session.side());
        let subject = Subject::new("unix seqpacket", "epoll", Wait::Block, sockets).parameter("ports", count);
        bench.subjects.push(subject.against("unix seqpacket epoll block ports=1"));
        let ports =
            move |session: &Session, size| FanIn::new(PortFan::new(session, count, size)?, size, session.side());
        let subject = Subject::new("messageport", "epoll", Wait::Block, ports).parameter("ports", count);
        bench.subjects.push(subject.against("messageport epoll block ports=1"));
        for (wait, spin) in [(Wait::Block, Duration::ZERO), (Wait::Spin, FOREVER)] {
            let looped = move |session: &Session, size| {
                LoopFanIn::new(PortFan::new(session, count, size)?.0, spin, size, session.side())
            };
            let subject = Subject::new("messageport", "event loop", wait, looped).parameter("ports", count);
            bench.subjects.push(subject.against(format!("messageport event loop {} ports=1", wait.name())));
        }
    }
    // Each port may cost a wake-up for its first message, which must not dominate a block.
    for subject in &mut bench.subjects {
        subject.min_operations = 300 * subject.parameter.map_or(1, |(_, count)| count);
    }
    // The process that creates the channels needs three descriptors per port, and some others.
    let limit = descriptor_limit();
    for subject in &mut bench.subjects {
        if subject.parameter.is_some_and(|(_, count)| 3 * count + 200 > limit) {
            subject.skip(format!("it needs more descriptors than the limit of {limit}"));
        }
    }
    bench
}

/// Erases the type of a player, for subjects whose type depends on the message size.
fn boxed(player: impl Player + 'static) -> Result<Box<dyn Player>> {
    Ok(Box::new(player))
}
