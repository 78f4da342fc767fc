//! What the system itself has: sockets and pipes. (Blocking SEQPACKET sockets are in the suite.)

use messageport_bench::{Bench, Pipe, RoundTrips, Socket, Stream, Subject, Wait};
use nix::sys::socket::SockType;

use crate::compare::push;

pub(crate) fn add(suite: &mut [Bench]) {
    let kinds = [("unix stream", SockType::Stream), ("unix seqpacket", SockType::SeqPacket)];
    for (what, kind) in kinds {
        for wait in [Wait::Spin, Wait::Block] {
            if (kind, wait) == (SockType::SeqPacket, Wait::Block) {
                continue;
            }
            let trips = Subject::new(what, "", wait, move |session, size| {
                Socket::new(session, size, kind, wait).map(RoundTrips)
            });
            push(suite, "rtt", trips);
            let stream =
                Subject::new(what, "", wait, move |session, size| Socket::new(session, size, kind, wait).map(Stream));
            push(suite, "throughput", stream);
        }
    }
    push(suite, "rtt", Subject::new("pipe", "", Wait::Block, |session, size| Pipe::new(session, size).map(RoundTrips)));
    let stream = Subject::new("pipe", "", Wait::Block, |session, size| Pipe::new(session, size).map(Stream));
    push(suite, "throughput", stream);
}
