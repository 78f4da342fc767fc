//! Adds subjects of peers to the suite, compared with the matching subject of messageport.

use messageport_bench::{Bench, Subject, Wait};

/// The name of a peer that is not installed, and what is missing.
pub(crate) type Skipped = (&'static str, &'static str);

/// Adds a subject to the named bench and compares it with messageport waiting in the same way, if that is measured.
pub(crate) fn add_subject(suite: &mut [Bench], bench: &str, subject: Subject) {
    let subject = match bench {
        // Streams of messageport are measured only with a receiver that spins.
        "throughput" => subject.against("messageport recv_into spin"),
        "rtt" if subject.wait == Wait::Block => subject.against("messageport recv_into block"),
        "rtt" => subject.against("messageport recv_into spin"),
        _ => subject,
    };
    if let Some(bench) = suite.iter_mut().find(|known| known.name == bench) {
        bench.subjects.push(subject);
    }
}

/// Returns the capacity of a peer's queue in messages: as many as fit in the queue of a port, between 16 and 1024.
pub(crate) fn queue_depth(size: usize) -> usize {
    ((64 << 10) / (size + 8)).clamp(16, 1024)
}
