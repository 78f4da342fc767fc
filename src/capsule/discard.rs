//! Discarding: dropping what is queued for an end that nothing reads any more.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::arrive::{BodyPlace, Undeliverable, arrive};
use crate::end::{End, Parts, growth};
use crate::error::Rejection;
use crate::queue::record::{RECORD_HEADER_LEN, RecordKind};
use crate::queue::ring::Consumer;
use crate::sys::Errno;

/// At most 4096 ports are closed one by one when a queue is dropped; the kernel closes the rest. A peer could otherwise
/// nest new ports as fast as they are closed.
const MAX_CLOSED: usize = 4096;

/// Drops what is queued for an end. Ports in the queue are closed and their queues dropped in turn, those of one
/// message before the next message, so few descriptors are needed at a time. A list of work stands in for recursion,
/// since a peer decides how deep ports are nested.
pub(crate) fn discard(end: &Arc<End>, consumer: &mut Consumer) {
    discard_queue(end, consumer);
    end.discard_lane();
    // A wake-up for the sending half of this process may have been among the packets.
    end.wake_own_producer();
    // Dropped messages may have put buffers into the cache.
    end.buffers().cache().give_up();
}

/// As [`discard`], for an end that only the handle being dropped holds: what is left on the lane goes with the socket.
pub(crate) fn discard_last(end: &End, consumer: &mut Consumer) {
    // Reading a ring that was never written to would cost a page of memory.
    if consumer.sequence() > 0 || !end.segment().is_untouched(end.side().incoming()) {
        discard_queue(end, consumer);
    }
}

fn discard_queue(end: &End, consumer: &mut Consumer) {
    let mut left = end.segment().limits().max_capacity;
    let mut nested: Vec<(Parts, usize)> = Vec::new();
    let mut total = 0;
    loop {
        let ports = match nested.last_mut() {
            Some((parts, left)) => discard_message_with_ports(&parts.end, &mut parts.consumer, left),
            None => discard_message_with_ports(end, consumer, &mut left),
        };
        if ports.is_empty() && nested.pop().is_none() {
            return;
        }
        total += ports.len();
        if total > MAX_CLOSED {
            return; // the kernel closes what is left in `nested`
        }
        for port in ports {
            port.end.close();
            let left = port.end.segment().limits().max_capacity;
            nested.push((port, left));
        }
    }
}

/// Drops messages up to the first that carries ports, and returns these ports; none at the end of the queue. `left`
/// counts down the bytes of a full queue, which are all that can have been unread: a peer that posts as fast as this
/// end drops cannot keep it here.
fn discard_message_with_ports(end: &End, consumer: &mut Consumer, left: &mut usize) -> Vec<Parts> {
    let mut ports = Vec::new();
    let mut payload = Vec::new();
    while ports.is_empty()
        && let Ok(Some(record)) = growth::next_message(end, consumer)
    {
        let Some(rest) = left.checked_sub(record.len + RECORD_HEADER_LEN) else { break };
        *left = rest;
        if record.kind != RecordKind::Data {
            payload.clear();
            let arrived = match payload.try_reserve(record.len) {
                Ok(()) => {
                    consumer.read_to_vec(record, &mut payload);
                    arrive(end, consumer, record, &mut payload, BodyPlace::InPlace)
                }
                Err(_) => Err(Rejection::Shortage(Errno::ENOMEM)),
            };
            match arrived {
                Ok(arrival) => ports.extend(arrival.into_ports()),
                Err(Rejection::Invalid(Undeliverable::Violation(_))) => break,
                // Without descriptors to spare this process cannot close them itself. They stay on the lane, and are
                // closed with what is left there.
                Err(Rejection::Shortage(_)) if record.handles > 0 => break,
                Err(Rejection::Shortage(_) | Rejection::Invalid(Undeliverable::Message(_))) => {}
            }
        }
        if consumer.release(record) {
            end.wake_peer_producer();
        }
    }
    if ports.is_empty() && consumer.announce() {
        end.wake_peer_producer();
    }
    ports
}
