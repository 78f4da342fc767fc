//! S05 to S14 and S20: posting, the transfer list, errors and the receiving calls.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use messageport::{
    ChannelOptions, CloseReason, FrozenBuffer, FullCause, Message, MessageChannel, MessagePort, PostErrorKind,
    SharedBuffer, TransferRef, Transferable, TryRecvError,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, geteuid, seteuid};

use crate::harness::luggage::{KINDS, Luggage, assert_unpacked, shared_of};
use crate::harness::*;

rules! {
    s05_fifo_and_exactly_once_across_transfers,
    s06_a_message_is_there_when_the_call_returns,
    s07_data_is_a_snapshot,
    s08_a_full_queue_takes_nothing_and_can_be_waited_for,
    s09_a_transfer_list_is_all_or_nothing,
    s10_errors_come_in_a_fixed_order,
    s10_a_data_limit_below_the_ring_size_holds_too,
    s11_posting_without_a_peer_gives_everything_back,
    s12_everything_on_the_list_leaves_the_sender,
    s13_things_arrive_in_list_order,
    s14_zero_bytes_differ_from_nothing,
    s20_every_receiving_call_takes_messages,
    s20_a_message_in_place_can_be_read_in_pieces,
}

fn s05_fifo_and_exactly_once_across_transfers(peer: &mut Peer) {
    const ROUNDS: u32 = 20;
    let mut port = peer.channel();
    for round in 0..ROUNDS {
        // In each direction ten more messages are posted than received: the queues grow, and move with their ports.
        post_numbers(&port, 30 * round..30 * (round + 1));
        port = hop(port);
        let there = peer.run_for_port(|there| {
            let port = there.ports.remove(0);
            post_numbers(&port, there.sent..there.sent + 30);
            expect_numbers(&port, there.seen..there.seen + 20);
            (there.sent, there.seen) = (there.sent + 30, there.seen + 20);
            there.give_back(port);
        });
        expect_numbers(&port, 20 * round..20 * (round + 1));
        peer.give(hop(there));
    }
    expect_numbers(&port, 20 * ROUNDS..30 * ROUNDS);
    assert_empty(&port);
    peer.run(|there| {
        expect_numbers(there.port(), there.seen..there.sent);
        assert_empty(there.port());
    });
}

fn s06_a_message_is_there_when_the_call_returns(peer: &mut Peer) {
    let port = peer.channel();
    peer.run(|there| there.port().post_message(b"now", []).unwrap());
    assert_eq!(port.try_recv().unwrap().data, b"now");
    if peer.is_concurrent() {
        // After the call the sender only spins until the answer comes.
        peer.begin(|there| {
            there.port().post_message(b"I am busy", []).unwrap();
            let deadline = Instant::now() + PATIENCE;
            while there.port().try_recv().is_err() {
                assert!(Instant::now() < deadline, "no answer");
                std::hint::spin_loop();
            }
        });
        assert_eq!(text(&port), "I am busy");
        port.post_message(b"thank you", []).unwrap();
        peer.finish();
    }
    peer.last(|there| {
        there.port().post_message(b"my last words", []).unwrap();
        there.die();
    });
    assert_eq!(text(&port), "my last words");
    assert_ended(&port, peer.death());
}

fn s07_data_is_a_snapshot(peer: &mut Peer) {
    let port = peer.channel();
    let mut data = *b"as it was";
    port.post_message(&data, []).unwrap();
    data.fill(b'X');
    port.post_message(&data, []).unwrap();
    peer.run(|there| {
        let in_place = there.port().recv_ref().unwrap();
        assert_eq!(in_place.to_vec().unwrap(), b"as it was");
        // Received data is a copy as well.
        drop(in_place);
        let kept = recv(there.port()).data;
        there.port().post_message(&kept, []).unwrap();
        assert_eq!(kept, b"XXXXXXXXX");
    });
    assert_eq!(text(&port), "XXXXXXXXX");
}

fn s08_a_full_queue_takes_nothing_and_can_be_waited_for(peer: &mut Peer) {
    let (port, other) = pair_of(4096);
    peer.give(other);
    let sent = fill(&port);
    let mut luggage = Luggage::pack();
    let full = assert_refused(&mut luggage, &port, b"");
    assert!(matches!(full, PostErrorKind::Full(FullCause::Ring)), "{full:?}");

    let (start, timeout) = (Instant::now(), Duration::from_millis(50));
    let error = port.post_message_timeout(b"", luggage.take(), timeout).unwrap_err();
    assert!(matches!(error.kind, PostErrorKind::TimedOut), "{error:?}");
    assert!(start.elapsed() >= timeout, "timed out too early");
    luggage.list = error.into_inner();
    luggage.assert_whole(&luggage.list);

    let take_all: Step = |there| {
        loop {
            let message = recv(there.port());
            if !message.ports.is_empty() {
                assert_unpacked(&message);
                return;
            }
            assert_eq!(message.data, there.seen.to_ne_bytes());
            there.seen += 1;
        }
    };
    if peer.is_concurrent() {
        peer.begin(take_all);
        for number in sent..sent + 5000 {
            port.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).unwrap();
        }
        port.post_message_timeout(b"", luggage.take(), PATIENCE).unwrap();
        peer.finish();
    } else {
        peer.run(|there| {
            expect_numbers(there.port(), 0..100);
            there.seen = 100;
        });
        port.post_message_timeout(b"", luggage.take(), PATIENCE).unwrap();
        peer.run(take_all);
    }
}

fn s09_a_transfer_list_is_all_or_nothing(peer: &mut Peer) {
    let options = ChannelOptions::new().max_handles(11).max_message_len(65535);
    let MessageChannel { port1: carrier, port2 } = options.create().unwrap();
    peer.give(port2);
    let mut luggage = Luggage::pack();
    // Valid things before an invalid one.
    let closed = pair().0;
    closed.close();
    luggage.list.push(closed.into());
    let kind = assert_refused(&mut luggage, &carrier, b"");
    assert!(matches!(kind, PostErrorKind::Unusable { index: 5 }), "{kind:?}");
    let Some(Transferable::Port(closed)) = luggage.list.pop() else { panic!("not the list that was passed in") };
    assert!(matches!(closed.post_message(b"", []).unwrap_err().kind, PostErrorKind::PortClosed));
    // Two ports, and two of each other kind, are twelve handles.
    let second = Luggage::pack();
    luggage.list.extend(second.list);
    let kind = assert_refused(&mut luggage, &carrier, b"");
    assert!(matches!(kind, PostErrorKind::TooManyHandles { handles: 12, max: 11 }), "{kind:?}");
    luggage.list.truncate(KINDS);
    let kind = assert_refused(&mut luggage, &carrier, &[0; 64 << 10]);
    assert!(matches!(kind, PostErrorKind::TooLarge { .. }), "{kind:?}");
    // A carrier without a peer.
    let (lost, its_peer) = pair();
    drop(its_peer);
    let kind = assert_refused(&mut luggage, &lost, b"");
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    // No failed attempt has reached the receiver. A list without a fault does.
    carrier.post_message(b"the only one", luggage.list).unwrap();
    peer.run(|there| {
        let message = recv(there.port());
        assert_eq!(message.data, b"the only one");
        assert_unpacked(&message);
        assert_empty(there.port());
        message.ports[0].post_message(b"it works", []).unwrap();
    });
    assert_eq!(text(&luggage.witness), "it works");
    assert_ended(&luggage.witness, CloseReason::Closed);
}

fn s10_errors_come_in_a_fixed_order(peer: &mut Peer) {
    let options = ChannelOptions::new().capacity(4096).max_capacity(4096).max_handles(2).max_message_len(4095);
    let MessageChannel { port1: carrier, port2 } = options.create().unwrap();
    // The carrier's own peer, after a transfer there and back.
    peer.give(port2);
    let own_peer = peer.run_for_port(|there| {
        let port = there.ports.remove(0);
        there.give_back(port);
    });
    fill(&carrier);
    let (witness, port) = pair();
    let (closed, _) = pair();
    closed.close();
    let (buffer, another) = (buffer_of(b"pixels"), buffer_of(b"colours"));
    let too_large = [0; 4096];

    // All faults at once, then one fault less each time.
    let (port_ref, buffer_ref) = (TransferRef::Port(&port), TransferRef::Buffer(&buffer));
    let mut list = vec![
        port_ref,
        buffer_ref,
        TransferRef::Buffer(&another),
        TransferRef::Port(&closed),
        buffer_ref,
        TransferRef::Port(&own_peer),
        TransferRef::Port(&carrier),
    ];
    let refused = |list: &[TransferRef<'_>], data: &[u8]| carrier.post_message_detaching(data, list).unwrap_err();
    assert!(matches!(refused(&list, &too_large), PostErrorKind::ContainsSelf { index: 6 }));
    list.pop();
    assert!(matches!(refused(&list, &too_large), PostErrorKind::ContainsPeer { index: 5 }));
    list.pop();
    assert!(matches!(refused(&list, &too_large), PostErrorKind::Duplicate { index: 4 }));
    list.pop();
    assert!(matches!(refused(&list, &too_large), PostErrorKind::Unusable { index: 3 }));
    assert_eq!(refused(&list, &too_large).item(), Some(3));
    list.pop();
    assert!(matches!(refused(&list, &too_large), PostErrorKind::TooManyHandles { handles: 4, max: 2 }));
    assert!(matches!(refused(&list[1..], &too_large), PostErrorKind::TooLarge { .. }));
    assert!(matches!(refused(&list[1..], b""), PostErrorKind::Full(FullCause::Ring)));
    // The other unusable things: each reported before TooLarge.
    let unusable = |thing| matches!(refused(&[thing], &too_large), PostErrorKind::Unusable { index: 0 });
    {
        let _reservation = port.reserve(8).unwrap();
        assert!(unusable(port_ref), "a port with an open reservation");
    }
    {
        witness.post_message(b"", []).unwrap();
        let _in_place = port.recv_ref().unwrap();
        assert!(unusable(port_ref), "a port that is being read");
    }
    let (detached, gone) = (pair().0, buffer_of(b"gone"));
    let (elsewhere, _elsewhere) = pair();
    elsewhere.post_message_detaching(b"", &[TransferRef::Port(&detached), TransferRef::Buffer(&gone)]).unwrap();
    assert!(unusable(TransferRef::Port(&detached)), "a port that was transferred");
    assert!(unusable(TransferRef::Buffer(&gone)), "a buffer that was transferred");
    // Things that stay with the sender are never detached, and yet twice on a list is an error.
    let (frozen, shared) = (FrozenBuffer::from_bytes(b"weights").unwrap(), shared_of(b"counters"));
    let file = file_of(b"a file");
    for thing in [TransferRef::Frozen(&frozen), TransferRef::Shared(&shared), TransferRef::Descriptor(file.as_fd())] {
        assert!(matches!(refused(&[thing, thing], &too_large), PostErrorKind::Duplicate { index: 1 }));
        assert!(matches!(
            refused(&[thing, port_ref], &too_large),
            PostErrorKind::TooManyHandles { handles: 3, max: 2 }
        ));
    }

    // Shortages of the system come last: the limit of the queue is reported before them.
    let long = [b'x'; 100_000]; // shorter buffers travel as bytes where descriptors are short
    let buffers: Vec<_> = (0..64).map(|_| buffer_of(&long)).collect();
    let (roomy, other) = pair();
    with_few_descriptors_in_flight(|| {
        let refused_at =
            buffers.iter().position(|buffer| match roomy.post_message_detaching(b"", &[TransferRef::Buffer(buffer)]) {
                Ok(()) => false,
                Err(PostErrorKind::ResourceExhausted(_)) => true,
                Err(kind) => panic!("expected the shortage: {kind:?}"),
            });
        let refused_at = refused_at.expect("a limit of descriptors in flight");
        assert_eq!(bytes_of(&buffers[refused_at]), long);
        assert!(matches!(refused(&[buffer_ref], b""), PostErrorKind::Full(FullCause::Ring)));
    });
    drop(other);

    // Everything is still here, and works.
    assert_entangled(&port, &witness);
    assert_eq!((bytes_of(&buffer), bytes_of(&another)), (b"pixels".to_vec(), b"colours".to_vec()));
    while own_peer.try_recv().is_ok() {}
    assert_entangled(&carrier, &own_peer);
    peer.give(own_peer);
    carrier.post_message_detaching(b"", &[port_ref]).unwrap();
    peer.run(|there| recv_port(there.port()).post_message(b"here I am", []).unwrap());
    assert_eq!(text(&witness), "here I am");
}

fn s10_a_data_limit_below_the_ring_size_holds_too(peer: &mut Peer) {
    let options = ChannelOptions::new().max_message_len(100);
    let MessageChannel { port1: port, port2 } = options.create().unwrap();
    peer.give(port2);
    assert_eq!(port.max_message_len(), 100);
    port.post_message(b"", [port.buffer(10).unwrap().into()]).unwrap();
    peer.run(|there| drop(recv(there.port())));
    let too_large = |kind| matches!(kind, PostErrorKind::TooLarge { len: 101, max: 100 });
    assert!(too_large(port.post_message(&[1; 101], []).unwrap_err().kind));
    assert!(too_large(port.post_message_wait(&[1; 101], []).unwrap_err().kind));
    assert!(too_large(port.reserve(101).map(drop).unwrap_err().into()));
    // With a new buffer, and with a recycled one.
    for buffer in [buffer_of(b"pixels"), port.buffer(10).unwrap()] {
        assert!(too_large(port.post_message_detaching(&[1; 101], &[TransferRef::Buffer(&buffer)]).unwrap_err()));
        port.post_message(&[1; 100], [buffer.into()]).unwrap();
    }
    port.post_message(&[1; 100], []).unwrap();
    peer.run(|there| {
        for count in [1, 1, 0] {
            let message = recv(there.port());
            assert_eq!((message.data, message.buffers.len()), (vec![1; 100], count));
        }
    });
}

fn s11_posting_without_a_peer_gives_everything_back(peer: &mut Peer) {
    let mut luggage = Luggage::pack();
    let (closed, _peer) = pair();
    closed.close();
    let kind = assert_refused(&mut luggage, &closed, b"");
    assert!(matches!(kind, PostErrorKind::PortClosed), "{kind:?}");

    let detached = peer.channel();
    let road = peer.channel();
    road.post_message_detaching(b"", &[TransferRef::Port(&detached)]).unwrap();
    let kind = assert_refused(&mut luggage, &detached, b"");
    assert!(matches!(kind, PostErrorKind::Detached), "{kind:?}");

    let (to_closed, data_to_closed, to_dead) = (peer.channel(), peer.channel(), peer.channel());
    peer.run(|there| there.ports[2..4].iter().for_each(MessagePort::close));
    let kind = assert_refused(&mut luggage, &to_closed, b"");
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    let kind = data_to_closed.post_message(b"only data", []).unwrap_err().kind;
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");

    peer.kill();
    assert_ended(&to_dead, peer.death());
    let kind = assert_refused(&mut luggage, &to_dead, b"");
    assert!(matches!(kind, PostErrorKind::PeerGone(reason) if reason == peer.death()), "{kind:?}");
}

fn s12_everything_on_the_list_leaves_the_sender(peer: &mut Peer) {
    let carrier = peer.channel();
    let (witness, port) = pair();
    let buffer = buffer_of(b"pixels");
    carrier.post_message_detaching(b"", &[TransferRef::Port(&port), TransferRef::Buffer(&buffer)]).unwrap();
    // The message has not been received yet.
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    assert_eq!(buffer.len(), 0);
    assert!(buffer.read_at(0, &mut [0]).is_err() && buffer.write_at(0, &[0]).is_err());
    // It is never received: the things do not come back, and the detached handles do not keep them alive.
    peer.run(|there| there.port().close());
    assert_ended(&witness, CloseReason::Closed);
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    assert_eq!(buffer.len(), 0);
}

fn s13_things_arrive_in_list_order(peer: &mut Peer) {
    let carrier = peer.channel();
    let mut witnesses = Vec::new();
    let mut port = |name: &str| {
        let (witness, port) = pair();
        witness.post_message(name.as_bytes(), []).unwrap();
        witnesses.push(witness);
        Transferable::from(port)
    };
    let buffer = |name: &str| Transferable::from(buffer_of(name.as_bytes()));
    let frozen = |name: &str| Transferable::from(FrozenBuffer::from_bytes(name.as_bytes()).unwrap());
    let shared = |name: &str| Transferable::from(shared_of(name.as_bytes()));
    let file = |name: &str| Transferable::from(file_of(name.as_bytes()));
    let list = [
        [port("p0"), buffer("b0"), file("d0"), buffer("b1"), shared("s0")],
        [frozen("f0"), frozen("f1"), port("p1"), shared("s1"), port("p2")],
        [buffer("b2"), file("d1"), port("p3"), frozen("f2"), file("d2")],
    ];
    carrier.post_message(b"data", list.into_iter().flatten()).unwrap();
    peer.run(|there| {
        let Message { data, ports, buffers, frozen, shared, descriptors, .. } = recv(there.port());
        assert_eq!(data, b"data");
        assert_eq!(ports.iter().map(text).collect::<Vec<_>>(), ["p0", "p1", "p2", "p3"]);
        assert_eq!(buffers.iter().map(bytes_of).collect::<Vec<_>>(), [b"b0", b"b1", b"b2"]);
        assert_eq!(frozen.iter().map(|buffer| buffer.to_vec()).collect::<Vec<_>>(), [b"f0", b"f1", b"f2"]);
        assert_eq!(shared.iter().map(|buffer| buffer.to_vec().unwrap()).collect::<Vec<_>>(), [b"s0", b"s1"]);
        assert_eq!(descriptors.iter().map(contents).collect::<Vec<_>>(), [b"d0", b"d1", b"d2"]);
    });
}

fn s14_zero_bytes_differ_from_nothing(peer: &mut Peer) {
    let port = peer.channel();
    port.post_message(b"", []).unwrap();
    port.reserve(0).unwrap().commit().unwrap();
    port.post_message(b"", [buffer_of(b"").into()]).unwrap();
    let empty = [FrozenBuffer::from_bytes(b"").unwrap().into(), SharedBuffer::new(0).unwrap().into()];
    port.post_message(b"", empty).unwrap();
    peer.run(|there| {
        let message = recv(there.port());
        assert!(message.data.is_empty() && message.buffers.is_empty(), "{message:?}");
        {
            let mut in_place = there.port().recv_ref().unwrap();
            assert!(in_place.is_empty() && in_place.take_transferred().buffers.is_empty());
        }
        let buffer = recv_buffer(there.port());
        assert_eq!(buffer.len(), 0);
        buffer.read_at(0, &mut []).unwrap();
        assert!(buffer.read_at(0, &mut [0]).is_err(), "a byte behind the end");
        let message = recv(there.port());
        assert_eq!((message.frozen[0].len(), message.shared[0].len()), (0, 0));
        // Posted on.
        there.port().post_message(b"", [buffer.into()]).unwrap();
        assert_empty(there.port());
    });
    assert_eq!(recv_buffer(&port).len(), 0);
    assert_empty(&port);
}

fn s20_every_receiving_call_takes_messages(peer: &mut Peer) {
    let port = peer.channel();
    if peer.is_concurrent() {
        // Before the message has come.
        peer.begin(|there| assert_eq!(there.port().recv().unwrap().data, 0_u32.to_ne_bytes()));
        post_numbers(&port, 0..1);
        peer.finish();
    }
    post_numbers(&port, 1..9);
    peer.run(|there| {
        let port = there.port();
        let mut message = Message::new();
        let is = |data: &[u8], number: u32| assert_eq!(data, number.to_ne_bytes());
        is(&port.recv().unwrap().data, 1);
        is(&port.try_recv().unwrap().data, 2);
        is(&port.recv_timeout(PATIENCE).unwrap().data, 3);
        port.recv_into(&mut message).unwrap();
        is(&message.data, 4);
        port.try_recv_into(&mut message).unwrap();
        is(&message.data, 5);
        port.recv_into_timeout(&mut message, PATIENCE).unwrap();
        is(&message.data, 6);
        is(&port.recv_ref().unwrap().to_vec().unwrap(), 7);
        is(&port.try_recv_ref().unwrap().to_vec().unwrap(), 8);
        assert_empty(port);
        assert!(matches!(port.try_recv_ref(), Err(TryRecvError::Empty)));
        assert!(port.recv_timeout(Duration::from_millis(1)).is_err());
    });
}

/// Data in the ring, and data in a buffer, which does not fit the ring.
fn s20_a_message_in_place_can_be_read_in_pieces(peer: &mut Peer) {
    let port = peer.channel();
    for len in [0, 1000, 300_000] {
        port.post_message(&pattern(len), []).unwrap();
        peer.run(|there| {
            let mut message = there.port().recv_ref_timeout(PATIENCE).unwrap();
            let expected = pattern(message.len());
            let mut pieces: Vec<u8> = Vec::new();
            for len in (1..).map(|len| 100 * len) {
                let mut piece = vec![0; len];
                let read = message.read(&mut piece).unwrap();
                pieces.extend(&piece[..read]);
                if read < len {
                    break;
                }
                // `read_at` does not move the position.
                message.read_at(0, &mut piece[..1]).unwrap();
            }
            assert!(pieces == expected);
            assert_eq!(message.read(&mut [0; 8]).unwrap(), 0);
            assert!(message.to_vec().unwrap() == expected);
            assert_eq!(message.read_exact(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        });
    }
    // The rest of a message that was read in part does not come with the next one.
    port.post_messages(&[b"read in part", b"read whole"]).unwrap();
    peer.run(|there| {
        let mut start = [0; 4];
        there.port().recv_ref().unwrap().read_exact(&mut start).unwrap();
        assert_eq!(&start, b"read");
        let mut whole = String::new();
        there.port().recv_ref().unwrap().read_to_string(&mut whole).unwrap();
        assert_eq!(whole, "read whole");
    });
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Posts numbers from 0 on until the queue is full. Returns their count.
fn fill(port: &MessagePort) -> u32 {
    for number in 0..10_000_u32 {
        match port.post_message(&number.to_ne_bytes(), []).map_err(|error| error.kind) {
            Ok(()) => {}
            Err(PostErrorKind::Full(FullCause::Ring)) => return number,
            Err(kind) => panic!("expected a full queue: {kind:?}"),
        }
    }
    panic!("a queue without a limit")
}

/// Posts the luggage, which fails. The list comes back as it was, and everything on it works.
#[track_caller]
fn assert_refused(luggage: &mut Luggage, carrier: &MessagePort, data: &[u8]) -> PostErrorKind {
    let list = luggage.take();
    let len = list.len();
    let (kind, list) = carrier.post_message(data, list).expect_err("a post that fails").into_parts();
    assert_eq!(list.len(), len);
    luggage.assert_whole(&list[..KINDS]);
    luggage.list = list;
    kind
}

/// Calls `work` while the kernel refuses more than a few descriptors of this user in flight. Privileges that lift the
/// limit are given up meanwhile.
fn with_few_descriptors_in_flight(work: impl FnOnce()) {
    let (limit, hard_limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let user = geteuid();
    if user.is_root() {
        seteuid(Uid::from_raw(65534)).unwrap();
    }
    setrlimit(Resource::RLIMIT_NOFILE, 8, hard_limit).unwrap();
    work();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard_limit).unwrap();
    seteuid(user).unwrap();
}
