//! S25 to S36: a port on a transfer list.

use std::os::fd::AsFd;

use messageport::{
    ChannelOptions, CloseReason, Message, MessageChannel, MessagePort, PostDataError, PostErrorKind, RecvError,
    RecvTimeoutError, TransferRef, Transferable, TryRecvError,
};
use nix::sys::resource::{Resource, getrlimit};

use crate::harness::*;

rules! {
    s25_queue_moves_with_a_transferred_port,
    s26_messages_posted_in_transit_join_the_queue,
    s27_messages_sent_before_the_transfer_arrive_first,
    s28_a_port_arrives_disabled,
    s29_the_old_handle_is_detached,
    s30_any_number_of_hops,
    s31_both_ends_may_be_in_transit,
    s32_queues_of_ports_in_queues_of_ports,
    s33_many_ports_in_one_message,
    s34_the_close_of_the_peer_comes_after_the_queue,
    s35_a_port_that_is_never_received_is_closed,
    s36_ports_in_each_others_queues_are_reclaimed,
    s36_ports_with_much_memory_in_each_others_queues_are_reclaimed,
}

fn s25_queue_moves_with_a_transferred_port(peer: &mut Peer) {
    let (sender, port) = pair();
    let (witness, passenger) = pair();
    post_numbers(&sender, 0..50);
    sender.post_message(b"", [passenger.into(), buffer_of(b"pixels").into()]).unwrap();
    post_numbers(&sender, 50..100);
    // A part of the queue is read before.
    expect_numbers(&port, 0..10);
    let carrier = peer.channel();
    carrier.post_message(b"", [port.into()]).unwrap();
    peer.run(|there| {
        let port = recv_port(there.port());
        expect_numbers(&port, 10..50);
        let Message { ports, buffers, .. } = recv(&port);
        ports[0].post_message(b"it came along", []).unwrap();
        assert_eq!(bytes_of(&buffers[0]), b"pixels");
        expect_numbers(&port, 50..100);
        assert_empty(&port);
    });
    assert_eq!(text(&witness), "it came along");
}

fn s26_messages_posted_in_transit_join_the_queue(peer: &mut Peer) {
    let mut port = peer.channel();
    let (carrier1, carrier2) = pair();
    // In transit, not yet received.
    peer.run(|there| post_numbers(there.port(), 0..10));
    carrier1.post_message(b"", [port.into()]).unwrap();
    peer.run(|there| post_numbers(there.port(), 10..20));
    port = recv_port(&carrier2);
    peer.run(|there| post_numbers(there.port(), 20..30));
    expect_numbers(&port, 0..30);
    // The port travels without a pause while the other end posts without a pause.
    peer.begin(|there| post_numbers(there.port(), 30..3000));
    let mut seen = 30_u32;
    while seen < 3000 {
        carrier1.post_message(b"", [port.into()]).unwrap();
        port = recv_port(&carrier2);
        while let Ok(message) = port.try_recv() {
            assert_eq!(message.data, seen.to_ne_bytes(), "number {seen}");
            seen += 1;
            if seen.is_multiple_of(50) {
                break; // the rest of the queue moves on
            }
        }
    }
    peer.finish();
    assert_empty(&port);
}

fn s27_messages_sent_before_the_transfer_arrive_first(peer: &mut Peer) {
    let (receiver, port) = pair();
    post_numbers(&port, 0..10);
    let carrier = peer.channel();
    carrier.post_message(b"", [port.into()]).unwrap();
    let port = peer.run_for_port(|there| {
        let port = recv_port(there.port());
        post_numbers(&port, 10..20);
        there.give_back(port);
    });
    post_numbers(&port, 20..30);
    expect_numbers(&receiver, 0..30);
    assert_empty(&receiver);
}

/// Without an event loop: nothing that the old owner armed for receiving moves with the port.
fn s28_a_port_arrives_disabled(peer: &mut Peer) {
    let (sender, port) = pair();
    // The old owner waits in `poll`: the wake-up is armed.
    let _descriptor = port.as_fd();
    assert_empty(&port);
    let carrier = peer.channel();
    carrier.post_message(b"", [port.into()]).unwrap();
    post_numbers(&sender, 0..10);
    peer.run(|there| {
        let port = recv_port(there.port());
        there.ports[0] = port;
    });
    post_numbers(&sender, 10..20);
    // Every message waits for the first call of the new owner.
    peer.run(|there| {
        expect_numbers(there.port(), 0..20);
        let _descriptor = there.port().as_fd();
        assert_empty(there.port());
    });
    // The new owner arms a wake-up of its own.
    post_numbers(&sender, 20..21);
    peer.run(|there| {
        await_readable(there.port());
        expect_numbers(there.port(), 20..21);
    });
}

fn s29_the_old_handle_is_detached(peer: &mut Peer) {
    let (witness, port) = pair();
    let carrier = peer.channel();
    witness.post_message(b"queued", []).unwrap();
    carrier.post_message_detaching(b"", &[TransferRef::Port(&port)]).unwrap();
    let assert_detached = || {
        assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
        assert!(matches!(port.post_message_wait(b"", []).unwrap_err().kind, PostErrorKind::Detached));
        assert!(matches!(port.reserve(1).unwrap_err(), PostDataError::Detached));
        assert!(matches!(port.recv(), Err(RecvError::Detached)));
        assert!(matches!(port.recv_ref(), Err(RecvError::Detached)));
        assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Detached))));
        assert!(matches!(port.recv_timeout(PATIENCE), Err(RecvTimeoutError::Failed(RecvError::Detached))));
        let again = carrier.post_message_detaching(b"", &[TransferRef::Port(&port)]);
        assert!(matches!(again, Err(PostErrorKind::Unusable { index: 0 })));
        port.close();
    };
    assert_detached();
    peer.run(|there| {
        let port = recv_port(there.port());
        assert_empty(there.port());
        there.ports[0] = port;
    });
    assert_detached();
    drop(port);
    // None of these calls affects the port at its new place.
    peer.run(|there| {
        assert_eq!(text(there.port()), "queued");
        there.port().post_message(b"alive", []).unwrap();
    });
    assert_eq!(text(&witness), "alive");
    // A detached handle does not hide the death of the new owner.
    let (witness, port) = pair();
    let carrier = peer.channel();
    carrier.post_message_detaching(b"", &[TransferRef::Port(&port)]).unwrap();
    peer.run(|there| {
        let port = recv_port(&there.ports[1]);
        there.ports.push(port);
    });
    assert_empty(&witness);
    peer.kill();
    assert_ended(&witness, peer.death());
    drop(port);
}

fn s30_any_number_of_hops(peer: &mut Peer) {
    let (witness, mut port) = pair();
    post_numbers(&witness, 0..1);
    // Unopened: no holder on the way receives from it.
    for hop in 0..25 {
        peer.give(port);
        port = peer.run_for_port(|there| {
            let port = there.ports.pop().unwrap();
            there.give_back(port);
        });
        post_numbers(&witness, hop + 1..hop + 2);
    }
    expect_numbers(&port, 0..26);
    // Used by every holder on the way.
    for hop in 0..25 {
        post_numbers(&witness, hop..hop + 1);
        peer.give(port);
        port = peer.run_for_port(|there| {
            let port = there.ports.pop().unwrap();
            expect_numbers(&port, there.seen..there.seen + 1);
            post_numbers(&port, 2 * there.seen..2 * there.seen + 1);
            there.seen += 1;
            there.give_back(port);
        });
        post_numbers(&port, 2 * hop + 1..2 * hop + 2);
    }
    expect_numbers(&witness, 0..50);
    assert_entangled(&witness, &port);
}

fn s31_both_ends_may_be_in_transit(peer: &mut Peer) {
    let mut third = peer.another();
    let (to_peer, to_third) = (peer.channel(), third.channel());
    let both_queued = || {
        let (end1, end2) = pair();
        post_numbers(&end1, 0..10);
        post_numbers(&end2, 0..10);
        (end1, end2)
    };
    // Over one carrier, in one message and in two.
    let (end1, end2) = both_queued();
    to_peer.post_message(b"", [end1.into(), end2.into()]).unwrap();
    let (end1, end2) = both_queued();
    to_peer.post_message(b"", [end1.into()]).unwrap();
    to_peer.post_message(b"", [end2.into()]).unwrap();
    peer.run(|there| {
        let together = recv(there.port()).ports;
        let apart = [recv_port(there.port()), recv_port(there.port())];
        for ends in [&together[..], &apart[..]] {
            expect_numbers(&ends[0], 0..10);
            expect_numbers(&ends[1], 0..10);
            assert_entangled(&ends[0], &ends[1]);
        }
    });
    // Over two carriers, to two receivers.
    let (end1, end2) = both_queued();
    to_peer.post_message(b"", [end1.into()]).unwrap();
    to_third.post_message(b"", [end2.into()]).unwrap();
    let arrive: Step = |there| {
        let port = recv_port(there.port());
        expect_numbers(&port, 0..10);
        port.post_message(b"found you", []).unwrap();
        there.ports[0] = port;
    };
    peer.run(arrive);
    third.run(arrive);
    peer.run(|there| assert_eq!(text(there.port()), "found you"));
    third.run(|there| assert_eq!(text(there.port()), "found you"));
    third.stop();
}

fn s32_queues_of_ports_in_queues_of_ports(peer: &mut Peer) {
    const DEPTH: u32 = 20;
    let carrier = peer.channel();
    // Nested dolls: the outermost port is posted, and each has the next one in its queue.
    let (innermost, mut doll) = pair();
    innermost.post_message(b"19", []).unwrap();
    let mut witnesses = vec![innermost];
    for number in (0..DEPTH - 1).rev() {
        let (witness, bigger) = pair();
        witness.post_message(number.to_string().as_bytes(), [doll.into()]).unwrap();
        witnesses.push(witness);
        doll = bigger;
    }
    carrier.post_message(b"", [doll.into()]).unwrap();
    peer.run(|there| {
        let mut doll = recv_port(there.port());
        for number in 0..20 {
            let Message { data, mut ports, .. } = recv(&doll);
            assert_eq!(data, number.to_string().as_bytes());
            assert_empty(&doll);
            doll.post_message(&data, []).unwrap();
            match ports.pop() {
                Some(next) => doll = next,
                None => assert_eq!(number, 19),
            }
        }
    });
    for (number, witness) in witnesses.iter().rev().enumerate() {
        assert_eq!(text(witness), number.to_string());
    }
    // A hundred times deeper and never opened: dropped by its holder, or by the kernel.
    if getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 < 20_000 {
        return println!("skipped: queues 2000 deep, since this user may not have so many descriptors in flight");
    }
    for dropped in [true, false] {
        let (witness, mut doll) = pair();
        for _ in 0..2000 {
            let (filler, bigger) = pair();
            filler.post_message(b"", [doll.into()]).unwrap();
            doll = bigger;
        }
        carrier.post_message(b"", [doll.into()]).unwrap();
        if dropped {
            peer.run(|there| {
                let doll = recv_port(there.port());
                // This stack has no room for two thousand nested calls.
                let small = std::thread::Builder::new().stack_size(128 << 10);
                small.spawn(move || doll.close()).unwrap().join().unwrap();
            });
            assert_ended(&witness, CloseReason::Closed);
        } else {
            peer.kill();
            assert_ended(&witness, peer.death());
        }
    }
}

fn s33_many_ports_in_one_message(peer: &mut Peer) {
    let carrier = peer.channel();
    let mut witnesses = Vec::new();
    let mut ports = |count: usize| -> Vec<Transferable> {
        let pairs = (0..count).map(|_| {
            let (witness, port) = pair();
            witness.post_message(witnesses.len().to_string().as_bytes(), []).unwrap();
            witnesses.push(witness);
            port.into()
        });
        pairs.collect()
    };
    carrier.post_message(b"64 in one", ports(64)).unwrap();
    carrier.post_message(b"100 in two", ports(50)).unwrap();
    carrier.post_message(b"100 in two", ports(50)).unwrap();
    peer.run(|there| {
        let mut number = 0;
        for count in [64, 50, 50] {
            let ports = recv(there.port()).ports;
            assert_eq!(ports.len(), count);
            for port in ports {
                assert_eq!(text(&port), number.to_string());
                port.post_message(number.to_string().as_bytes(), []).unwrap();
                number += 1;
            }
        }
    });
    for (number, witness) in witnesses.iter().enumerate() {
        assert_eq!(text(witness), number.to_string());
        assert_ended(witness, CloseReason::Closed);
    }
}

fn s34_the_close_of_the_peer_comes_after_the_queue(peer: &mut Peer) {
    let carrier = peer.channel();
    let in_transit = |end: fn(MessagePort)| {
        let (closing, port) = pair();
        post_numbers(&closing, 0..10);
        carrier.post_message(b"", [port.into()]).unwrap();
        post_numbers(&closing, 10..20);
        end(closing);
    };
    in_transit(|port| port.close());
    in_transit(drop);
    peer.run(|there| {
        for _ in 0..2 {
            let port = recv_port(there.port());
            expect_numbers(&port, 0..20);
            assert_ended(&port, CloseReason::Closed);
        }
    });
    // The holder of the peer ends.
    let port = peer.channel();
    let (carrier1, carrier2) = pair();
    carrier1.post_message(b"", [port.into()]).unwrap();
    peer.last(|there| {
        post_numbers(&there.ports[1], 0..10);
        there.die();
    });
    let port = recv_port(&carrier2);
    expect_numbers(&port, 0..10);
    assert_ended(&port, peer.death());
}

fn s35_a_port_that_is_never_received_is_closed(peer: &mut Peer) {
    // Alone, and in the queue of a port that is never received.
    let in_transit = |carrier: MessagePort| {
        let (witness1, port1) = pair();
        let (witness2, port2) = pair();
        witness1.post_message(b"", [port2.into()]).unwrap();
        carrier.post_message(b"", [port1.into()]).unwrap();
        assert_empty(&witness1);
        [carrier, witness1, witness2]
    };
    let closed = in_transit(peer.channel());
    let dropped = in_transit(peer.channel());
    let killed = in_transit(peer.channel());
    peer.run(|there| there.ports[0].close());
    closed.iter().for_each(|port| assert_ended(port, CloseReason::Closed));
    dropped.iter().for_each(assert_empty);
    peer.run(|there| drop(there.ports.remove(1)));
    dropped.iter().for_each(|port| assert_ended(port, CloseReason::Closed));
    killed.iter().for_each(assert_empty);
    peer.kill();
    killed.iter().for_each(|port| assert_ended(port, peer.death()));
}

fn s36_ports_in_each_others_queues_are_reclaimed(peer: &mut Peer) {
    let tie: [Step; 3] = [
        // The end of a pair in a queue of another pair, and the other way round.
        |there| {
            let [passenger, a1, a2, b1, b2] = five(there);
            a1.post_message(b"", [passenger.into()]).unwrap();
            a1.post_message(b"", [b2.into()]).unwrap();
            b1.post_message(b"", [a2.into()]).unwrap();
            there.ports.extend([a1, b1]);
        },
        // Both ends of one of them.
        |there| {
            let [passenger, a1, a2, b1, b2] = five(there);
            a1.post_message(b"", [b2.into(), passenger.into()]).unwrap();
            b1.post_message(b"", [a1.into(), a2.into()]).unwrap();
            there.ports.push(b1);
        },
        // A ring of three.
        |there| {
            let [passenger, a1, a2, b1, b2] = five(there);
            let (c1, c2) = pair();
            a1.post_message(b"", [b2.into()]).unwrap();
            b1.post_message(b"", [c2.into(), passenger.into()]).unwrap();
            c1.post_message(b"", [a2.into()]).unwrap();
            there.ports.extend([a1, b1, c1]);
        },
    ];
    for tie in tie {
        let (witness, passenger) = pair();
        let ((a1, a2), memory_of_a) = newest_memory(pair);
        let ((b1, b2), memory_of_b) = newest_memory(pair);
        let watches = [memory_of_a, memory_of_b].map(|memory| Watch::new(&memory));
        peer.give_all([passenger, a1, a2, b1, b2].map(Transferable::from));
        assert!(watches.iter().all(|watch| !watch.is_freed()));
        assert_empty(&witness);
        // From here on no process can receive the ports. The kernel may collect them at any time, and does so when
        // these close.
        peer.run(tie);
        peer.run(|there| there.ports.clear());
        assert_ended(&witness, CloseReason::PeerDied);
        watches.into_iter().for_each(Watch::assert_freed);
    }
}

fn s36_ports_with_much_memory_in_each_others_queues_are_reclaimed(peer: &mut Peer) {
    let (witness, passenger) = pair();
    let mut watches = Vec::new();
    let mut laden_pair = || {
        let options = ChannelOptions::new().capacity(4096).max_capacity(1 << 20);
        let MessageChannel { port1, port2 } = options.create().unwrap();
        // Each has a buffer in its cache, and another one is with its peer.
        for (from, to) in [(&port1, &port2), (&port2, &port1)] {
            for _ in 0..2 {
                let (buffer, memory) = newest_memory(|| from.buffer(10_000).unwrap());
                watches.push(Watch::new(&memory));
                from.post_message(b"", [buffer.into()]).unwrap();
            }
            drop(recv(to));
        }
        // Both queues continue in a larger ring, which one side has already mapped.
        let ((), memory) = newest_memory(|| post_numbers(&port1, 0..300));
        watches.push(Watch::new(&memory));
        let ((), memory) = newest_memory(|| post_numbers(&port2, 0..300));
        watches.push(Watch::new(&memory));
        drop(recv(&port2));
        expect_numbers(&port2, 0..300);
        assert!([&port1, &port2].iter().all(|port| port.queued().capacity > 4096));
        (port1, port2)
    };
    let ((a1, a2), (b1, b2)) = (laden_pair(), laden_pair());
    peer.give_all([passenger, a1, a2, b1, b2].map(Transferable::from));
    assert!(watches.iter().all(|watch| !watch.is_freed()));
    assert_empty(&witness);
    peer.run(|there| {
        let [passenger, a1, a2, b1, b2] = five(there);
        a1.post_message(b"", [passenger.into(), b2.into()]).unwrap();
        b1.post_message(b"", [a2.into()]).unwrap();
        there.ports.extend([a1, b1]);
    });
    peer.run(|there| there.ports.clear());
    assert_ended(&witness, CloseReason::PeerDied);
    watches.into_iter().for_each(Watch::assert_freed);
}

/// The five ports that were given to the peer.
fn five(there: &mut There) -> [MessagePort; 5] {
    std::mem::take(&mut there.ports).try_into().expect("five ports")
}
