//! How a peer is put beside messageport.

use messageport_bench::{Bench, Subject, Wait};

/// A peer that is not here, and why.
pub(crate) type Skipped = (&'static str, &'static str);

/// Adds a subject to the bench with this name, compared with messageport where it waits in the same way.
pub(crate) fn add_subject(suite: &mut [Bench], bench: &str, subject: Subject) {
    let beside = if bench == "wake" { None } else { Some(format!("messageport recv_into {}", beside(subject.wait))) };
    let subject = match beside {
        // Streams of messageport are measured spinning only.
        Some(_) if bench == "throughput" => subject.against("messageport recv_into spin"),
        Some(label) if bench == "rtt" => subject.against(label),
        _ => subject,
    };
    if let Some(bench) = suite.iter_mut().find(|known| known.name == bench) {
        bench.subjects.push(subject);
    }
}

fn beside(wait: Wait) -> &'static str {
    if wait == Wait::Block { "block" } else { "spin" }
}

/// How many messages of a stream may wait: as many as in the memory that a port has.
pub(crate) fn queue_depth(size: usize) -> usize {
    ((64 << 10) / (size + 8)).clamp(16, 1024)
}
