//! S08: every byte that waits counts against the limit of its direction, whichever way the message travels.

use messageport::{FullCause, MessagePort, PostErrorKind, TransferBuffer};

use crate::harness::*;

rules! {
    s08_every_way_to_post_stops_at_the_limit,
    s08_a_message_longer_than_the_limit_is_posted_on_an_empty_queue,
    s08_long_data_takes_no_descriptors,
    s08_the_backlog_moves_with_a_port,
    s08_transferred_buffers_count_apart,
}

/// Posts data of this length, without waiting.
type Post = fn(&MessagePort, usize) -> Result<(), PostErrorKind>;

/// All ways to post plain data.
const WAYS: &[(&str, Post)] = &[
    ("post_message", |port, len| port.post_message(&vec![1; len], []).map_err(|error| error.kind)),
    ("post_message_timeout", |port, len| {
        let posted = port.post_message_timeout(&vec![2; len], [], std::time::Duration::ZERO);
        posted.map_err(|error| match error.kind {
            PostErrorKind::TimedOut => PostErrorKind::Full(FullCause::Ring),
            kind => kind,
        })
    }),
    ("post_messages", |port, len| port.post_messages(&[&vec![3; len]]).map_err(|error| error.kind.into())),
    ("reserve", |port, len| {
        let mut reservation = port.reserve(len)?;
        reservation.write_at(0, &vec![4; len]).unwrap();
        Ok(reservation.commit()?)
    }),
    ("post_plain", |port, len| Ok(port.post_plain_slice(&vec![5_u8; len])?)),
    ("with a list", |port, len| {
        let (_, passenger) = pair();
        port.post_message(&vec![6; len], [passenger.into()]).map_err(|error| error.kind)
    }),
];

/// Posts until the queue is full. Returns how many messages were posted.
fn fill(port: &MessagePort, post: Post, len: usize) -> usize {
    let mut posted = 0;
    loop {
        match post(port, len) {
            Ok(()) => posted += 1,
            Err(PostErrorKind::Full(FullCause::Ring)) => return posted,
            Err(kind) => panic!("{kind:?} after {posted} messages of {len}"),
        }
    }
}

fn s08_every_way_to_post_stops_at_the_limit(peer: &mut Peer) {
    for (capacity, limit) in [(4096, 4096), (4096, 256 << 10), (64 << 10, 1 << 20)] {
        for (way, post) in WAYS {
            for len in [limit / 64, limit / 10, limit / 4, limit / 2, limit - 4096] {
                let (port, other) = growing_pair(capacity, limit);
                peer.give(other);
                let (posted, queued) = (fill(&port, *post, len), port.queued());
                assert!(posted > 0 && posted * len <= limit, "{way}: {posted} messages of {len} in {limit}");
                assert!(posted * len <= queued.bytes && queued.bytes <= limit + 4096, "{way}, {len}: {queued:?}");
                peer.run(|there| {
                    let port = there.ports.last().unwrap();
                    while port.try_recv().is_ok() {}
                });
                assert_eq!(port.queued().bytes, 0, "{way}, {len}");
                assert!(fill(&port, *post, len) > 0, "{way}: {len} after everything was read");
                peer.run(|there| drop(there.ports.pop()));
            }
        }
    }
}

fn s08_a_message_longer_than_the_limit_is_posted_on_an_empty_queue(peer: &mut Peer) {
    const LIMIT: usize = 64 << 10;
    const LEN: usize = 10 * LIMIT;
    for capacity in [4096, LIMIT] {
        for (way, post) in WAYS {
            let (port, other) = growing_pair(capacity, LIMIT);
            peer.give(other);
            for _ in 0..3 {
                assert_eq!(fill(&port, *post, LEN), 1, "{way}");
                assert!((LEN..LEN + LIMIT).contains(&port.queued().bytes), "{way}: {:?}", port.queued());
                // Behind it there is what the present ring holds.
                assert!(fill(&port, *post, 1000) <= capacity / 1000, "{way}");
                peer.run(|there| {
                    let port = there.ports.last().unwrap();
                    assert_eq!(recv(port).data.len(), LEN);
                    while port.try_recv().is_ok() {}
                });
            }
            // A post that waits goes on as soon as the peer has read.
            fill(&port, *post, LEN);
            peer.begin(|there| {
                let port = there.ports.last().unwrap();
                if there.is_concurrent() {
                    assert_eq!(recv(port).data.len(), LEN);
                }
            });
            if peer.is_concurrent() {
                port.post_message_timeout(&vec![7; LEN], [], PATIENCE).unwrap();
            }
            peer.finish();
            peer.run(|there| drop(there.ports.pop()));
        }
    }
}

fn s08_long_data_takes_no_descriptors(peer: &mut Peer) {
    const MESSAGES: usize = 800;
    const LEN: usize = 50_000;
    let port = peer.channel();
    let before = open_memory();
    for _ in 0..MESSAGES {
        port.post_message(&[8; LEN], []).unwrap();
    }
    assert!(port.queued().bytes >= MESSAGES * LEN);
    // They lie in the ring, one file, whose capacity is a power of two.
    assert!(port.queued().capacity >= 32 << 20 && open_memory() - before < 33 << 20, "{:?}", port.queued());
    peer.run(|there| {
        for _ in 0..MESSAGES {
            assert_eq!(recv(there.port()).data, [8; LEN]);
        }
        assert_empty(there.port());
    });
}

fn s08_the_backlog_moves_with_a_port(peer: &mut Peer) {
    const LEN: usize = 100 << 10;
    let (port, other) = growing_pair(4096, 4096);
    port.post_message(&[9; LEN], [TransferBuffer::new(5000).unwrap().into()]).unwrap();
    let before = port.queued();
    assert!(before.bytes >= LEN && before.transferred == 5000);
    let carrier = peer.channel();
    carrier.post_message(b"", [port.into()]).unwrap();
    peer.run(|there| {
        let port = recv_port(there.port());
        let queued = port.queued();
        assert!(queued.bytes >= LEN && queued.transferred == 5000, "{queued:?}");
        let full = port.post_message(&[9; LEN], []).unwrap_err();
        assert!(matches!(full.kind, PostErrorKind::Full(FullCause::Ring)), "{full:?}");
        there.ports.push(port);
    });
    assert_eq!(recv(&other).data.len(), LEN);
    assert_empty(&other);
    peer.run(|there| {
        let port = there.ports.last().unwrap();
        assert_eq!((port.queued().bytes, port.queued().transferred), (0, 0));
        port.post_message(&[9; LEN], []).unwrap();
    });
    assert_eq!(recv(&other).data.len(), LEN);
}

fn s08_transferred_buffers_count_apart(peer: &mut Peer) {
    let (port, other) = growing_pair(4096, 4096);
    peer.give(other);
    for round in 0..2 {
        for number in 1..=4 {
            let buffer = port.buffer(100_000).unwrap();
            port.post_message(b"", [buffer.into()]).unwrap();
            assert_eq!(port.queued().transferred, number * 100_000, "in round {round}");
        }
        assert!(port.queued().bytes < 4096);
        peer.run(|there| {
            let port = there.ports.last().unwrap();
            for _ in 0..4 {
                assert_eq!(recv_buffer(port).len(), 100_000);
            }
            assert_empty(port);
        });
        assert_eq!(port.queued().transferred, 0);
    }
}
