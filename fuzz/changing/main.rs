//! Both sides of the ring over memory that changes between any two loads, as if the peer wrote anything at any time.
//!
//! The library's `queue/{ring,record,doorbell}.rs` are compiled here over another memory (`queue/direction.rs`): each load
//! may return a new value, and each store is checked to be to memory of the side that makes it.
#![cfg_attr(feature = "libfuzzer", no_main)]
// The target uses a part of the library's files.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::arc_with_non_send_sync)]

mod consumer;
mod producer;
mod queue;
#[path = "../../src/violation.rs"]
mod violation;

const TARGETS: &[(&str, messageport_fuzz::Target)] = &[("changing", run)];

fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0..192, rest)) => consumer::run(rest, consumer::Fault::None),
        Some((_, rest)) => producer::run(rest, producer::Fault::None),
        None => {}
    }
}

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));

#[cfg(not(feature = "libfuzzer"))]
fn main() {
    messageport_fuzz::runs::main(TARGETS);
}

#[cfg(test)]
mod tests {
    use messageport_fuzz::runs::{caught, replay};

    use super::{consumer, producer, run};

    #[test]
    fn changing() {
        replay("changing", run);
    }

    #[test]
    fn a_header_that_is_read_twice() {
        caught("changing", "outside the ring", |input| consumer::run(input, consumer::Fault::HeaderReadTwice));
    }

    #[test]
    fn a_cursor_that_is_read_twice() {
        caught("changing", "a cursor that was not checked", |input| {
            producer::run(input, producer::Fault::CursorReadTwice);
        });
    }
}
