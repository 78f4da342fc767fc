//! S08: a queue grows as needed up to its limit, and shrinks again.

use messageport::{FullCause, Message, PostErrorKind};

use crate::harness::*;

rules! {
    s08_a_burst_loses_nothing_and_its_memory_is_given_back,
    s08_a_slow_reader_loses_nothing_and_keeps_nothing,
    s08_a_queue_is_full_at_its_limit,
    s08_a_grown_queue_survives_its_senders_death,
    s25_a_grown_queue_moves_in_both_directions,
    s32_ports_in_a_grown_queue_arrive,
}

fn s08_a_burst_loses_nothing_and_its_memory_is_given_back(peer: &mut Peer) {
    const BURST: u32 = 1_000_000;
    let port = peer.channel();
    let before = (port.queued(), open_memory());
    assert_eq!((before.0.bytes, before.0.capacity), (0, 64 << 10));
    for _ in 0..2 {
        post_numbers(&port, 0..BURST);
        let full = port.queued();
        assert_eq!((full.bytes, full.high_water), (full.bytes.max(BURST as usize * 16), full.bytes));
        assert!(open_memory() > before.1);
        peer.run(|there| {
            expect_numbers(there.port(), 0..BURST);
            assert_empty(there.port());
        });
        // The next post finds the queue empty and returns to the first ring by a link of 8 bytes.
        post_numbers(&port, 0..1);
        assert_eq!((port.queued().bytes, port.queued().capacity), (8 + 16, 64 << 10));
        peer.run(|there| {
            expect_numbers(there.port(), 0..1);
            assert_empty(there.port());
        });
        assert_eq!(open_memory(), before.1, "bytes of memory files");
    }
    assert!(port.queued().high_water >= BURST as usize * 16);
}

fn s08_a_slow_reader_loses_nothing_and_keeps_nothing(peer: &mut Peer) {
    const MESSAGES: u32 = 200_000;
    let port = peer.channel();
    // The memory files of both sides while no message is queued.
    let round_trip = |peer: &mut Peer| {
        port.post_message(b"", []).unwrap();
        peer.run(|there| {
            recv(there.port());
            assert_empty(there.port());
        });
    };
    round_trip(peer);
    let before = open_memory();
    peer.run(|there| there.kept = open_memory());
    for _ in 0..2 {
        peer.begin(|there| {
            if !there.is_concurrent() {
                return; // nothing is posted meanwhile
            }
            for number in 0..MESSAGES / 2 {
                assert_eq!(recv(there.port()).data, number.to_ne_bytes());
                for _ in 0..200 {
                    std::hint::spin_loop();
                }
            }
        });
        post_numbers(&port, 0..MESSAGES);
        assert!(port.queued().capacity > 64 << 10, "at least half of the messages are unread");
        peer.finish();
        port.post_message(b"x", []).unwrap();
        peer.run(|there| {
            let mut number = if there.is_concurrent() { MESSAGES / 2 } else { 0 };
            while number < MESSAGES {
                assert_eq!(recv(there.port()).data, number.to_ne_bytes());
                number += 1;
            }
            assert_eq!(recv(there.port()).data.len(), 1);
            assert_empty(there.port());
        });
        round_trip(peer);
        assert_eq!(open_memory(), before, "bytes of memory files here");
        peer.run(|there| assert_eq!(open_memory(), there.kept, "bytes of memory files there"));
    }
}

fn s08_a_queue_is_full_at_its_limit(peer: &mut Peer) {
    let (port, other) = growing_pair(4096, 64 << 10);
    peer.give(other);
    for _ in 0..3 {
        // Rings of 4, 8, 16 and 32 KiB make 60 KiB; at least the last one is full.
        let mut sent = 0;
        let kind = loop {
            match port.post_message(&u32::to_ne_bytes(sent), []) {
                Ok(()) => sent += 1,
                Err(error) => break error.kind,
            }
        };
        assert!(matches!(kind, PostErrorKind::Full(FullCause::Ring)), "{kind:?}");
        assert!((2048..=4096).contains(&(sent + 256)), "{sent} messages of 16 bytes");
        assert!(port.post_message_timeout(b"", [], std::time::Duration::ZERO).is_err());
        assert_eq!(port.queued().capacity, 32 << 10);
        peer.run(|there| {
            while let Ok(message) = there.port().try_recv() {
                assert_eq!(message.data, there.seen.to_ne_bytes());
                there.seen += 1;
            }
            there.seen = 0;
        });
    }
}

fn s08_a_grown_queue_survives_its_senders_death(peer: &mut Peer) {
    let (port, other) = growing_pair(4096, 1 << 20);
    peer.give(other);
    peer.run(|there| {
        post_numbers(there.port(), 0..20_000);
        assert!(there.port().queued().capacity > 100_000);
    });
    let death = peer.death();
    peer.kill();
    expect_numbers(&port, 0..20_000);
    assert_ended(&port, death);
}

fn s25_a_grown_queue_moves_in_both_directions(peer: &mut Peer) {
    let (port, other) = growing_pair(4096, 1 << 20);
    // Both directions have grown. The consumer of one has left the first ring; the consumer of the other has not.
    post_numbers(&port, 0..3000);
    post_numbers(&other, 0..3000);
    expect_numbers(&other, 0..1000);
    let carrier = peer.channel();
    carrier.post_message(b"", [other.into()]).unwrap();
    post_numbers(&port, 3000..6000);
    peer.run(|there| {
        let other = recv_port(there.port());
        expect_numbers(&other, 1000..6000);
        assert_empty(&other);
        post_numbers(&other, 3000..6000);
        there.ports.push(other);
    });
    expect_numbers(&port, 0..6000);
    assert_empty(&port);
    // Everything was read, and both directions return to their first ring.
    post_numbers(&port, 0..10);
    assert_eq!(port.queued().capacity, 4096);
    peer.run(|there| {
        let other = &there.ports[1];
        expect_numbers(other, 0..10);
        post_numbers(other, 0..10);
        assert_eq!(other.queued().capacity, 4096);
    });
    expect_numbers(&port, 0..10);
    // Another move, from the present holder.
    post_numbers(&port, 0..3000);
    peer.run(|there| expect_numbers(&there.ports[1], 0..3000));
}

fn s32_ports_in_a_grown_queue_arrive(peer: &mut Peer) {
    let (port, other) = growing_pair(4096, 1 << 20);
    peer.give(other);
    let mut witnesses = Vec::new();
    for number in 0..100_u32 {
        let (witness, passenger) = pair();
        post_numbers(&passenger, number..number + 1);
        port.post_message(&[1; 500], [passenger.into(), buffer_of(&number.to_ne_bytes()).into()]).unwrap();
        witnesses.push(witness);
    }
    assert!(port.queued().capacity > 4096);
    for (number, witness) in (0..).zip(&witnesses) {
        expect_numbers(witness, number..number + 1);
    }
    peer.run(|there| {
        for number in 0..100_u32 {
            let Message { data, ports, buffers, .. } = recv(there.port());
            assert_eq!(data, [1; 500]);
            assert_eq!(bytes_of(&buffers[0]), number.to_ne_bytes());
            post_numbers(&ports[0], number..number + 1);
            there.ports.extend(ports);
        }
    });
    for (number, witness) in (0..).zip(&witnesses) {
        expect_numbers(witness, number..number + 1);
    }
}
