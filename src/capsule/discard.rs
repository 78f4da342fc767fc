//! Discarding: what is queued for an end that nobody reads any more.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::arrive::{Undeliverable, take};
use crate::end::{End, Parts, growth};
use crate::error::Rejection;
use crate::queue::record::{HEADER, Kind};
use crate::queue::ring::Consumer;

/// Most ports that are closed one by one when a queue is dropped: a peer could nest new ones as fast as we close them.
const MAX_CLOSED: usize = 4096;

/// Drops what is queued for an end that nobody reads any more. Ports in the queue are closed and their queues dropped
/// in turn, those of one message before the next message is looked at: so few descriptors are needed at a time. By a
/// list of work and not by recursion, since a peer decides how deep they are nested.
pub(crate) fn discard(end: &Arc<End>, consumer: &mut Consumer) {
    discard_queue(end, consumer);
    end.lane().discard_rest();
    // A wake-up for our sending half may have been among it.
    end.wake_own_producer();
    // What was dropped may have come to stay.
    end.buffers().cache().give_up();
}

/// The same for an end that nothing holds but the handle that is being dropped: what is left on the lane goes with the
/// socket.
pub(crate) fn discard_last(end: &End, consumer: &mut Consumer) {
    // A look at a ring that nobody has written to would cost a page of memory.
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
            return; // what is left in `nested` is closed by the kernel
        }
        for port in ports {
            port.end.close();
            let left = port.end.segment().limits().max_capacity;
            nested.push((port, left));
        }
    }
}

/// Drops messages up to the first that carries ports, which it returns; none at the end of the queue. A peer that posts
/// as fast as we drop must not keep us here: a full queue, of which `left` bytes are left, is all that can have been
/// unread.
fn discard_message_with_ports(end: &End, consumer: &mut Consumer, left: &mut usize) -> Vec<Parts> {
    let mut ports = Vec::new();
    let mut payload = Vec::new();
    while ports.is_empty()
        && let Ok(Some(record)) = growth::peek(end, consumer)
    {
        let Some(rest) = left.checked_sub(record.len + HEADER) else { break };
        *left = rest;
        if record.kind != Kind::Data {
            payload.clear();
            consumer.read_to_vec(record, &mut payload);
            match take(end, consumer, record, &payload) {
                Ok((_, things)) => ports = things.ports,
                Err(Rejection::Invalid(Undeliverable::Violation(_))) => break,
                // Without descriptors to spare they cannot be closed in our name: the kernel closes them.
                Err(Rejection::Shortage(_)) if record.handles > 0 => {
                    let _reading = end.reading();
                    end.lane().take_handles();
                }
                Err(Rejection::Shortage(_) | Rejection::Invalid(Undeliverable::Message { .. })) => {}
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
