//! Unix sockets and pipes. (Blocking SEQPACKET sockets are in the suite of messageport.)

use messageport_bench::{Bench, PipeLink, RoundTrips, SocketLink, Stream, Subject, Wait};
use nix::sys::socket::SockType;

use crate::compare::add_subject;

pub(crate) fn add(suite: &mut [Bench]) {
    let kinds = [("unix stream", SockType::Stream), ("unix seqpacket", SockType::SeqPacket)];
    for (what, kind) in kinds {
        for wait in [Wait::Spin, Wait::Block] {
            if (kind, wait) == (SockType::SeqPacket, Wait::Block) {
                continue;
            }
            let trips = Subject::new(what, "", wait, move |session, size| {
                SocketLink::new(session, size, kind, wait).map(RoundTrips)
            });
            add_subject(suite, "rtt", trips);
            let stream = Subject::new(what, "", wait, move |session, size| {
                SocketLink::new(session, size, kind, wait).map(Stream)
            });
            add_subject(suite, "throughput", stream);
        }
    }
    add_subject(
        suite,
        "rtt",
        Subject::new("pipe", "", Wait::Block, |session, size| PipeLink::new(session, size).map(RoundTrips)),
    );
    let stream = Subject::new("pipe", "", Wait::Block, |session, size| PipeLink::new(session, size).map(Stream));
    add_subject(suite, "throughput", stream);
}
