//! S37 to S39 with recycled buffers: which posts cost nothing, which buffers come back, and which do not.

use messageport::{ChannelOptions, Message, MessageChannel, MessagePort, PostErrorKind, TransferBuffer, TryRecvError};

use crate::harness::*;

rules! {
    s37_a_buffer_that_came_back_is_posted_by_its_number,
    s37_a_buffer_may_go_back_and_forth,
    s37_data_larger_than_the_ring_is_one_ordinary_message,
    s37_large_data_and_a_new_buffer_get_different_slots,
    s38_a_buffer_that_travels_on_is_not_recycled,
    s38_recycled_buffers_move_with_their_port,
    s39_release_buffers_frees_recycled_buffers,
    s39_no_more_buffers_are_kept_than_the_channel_allows,
    s10_a_buffer_that_came_back_goes_over_any_port,
    s10_a_buffer_that_goes_elsewhere_is_forgotten,
}

const LEN: usize = 1 << 20;

fn fill(buffer: &TransferBuffer, byte: u8) {
    buffer.write_at(0, &[byte]).unwrap();
    buffer.write_at(LEN - 1, &[byte]).unwrap();
}

fn is_filled(buffer: &TransferBuffer, byte: u8) {
    assert_eq!(buffer.len(), LEN);
    let ends = [0, LEN - 1].map(|at| buffer.read_value::<u8>(at).unwrap());
    assert_eq!(ends, [byte; 2]);
}

fn s37_a_buffer_that_came_back_is_posted_by_its_number(peer: &mut Peer) {
    let port = peer.channel();
    let mut kept = 0;
    for round in 0..100_u8 {
        let buffer = port.buffer(LEN).unwrap();
        fill(&buffer, round);
        port.post_message(b"", [buffer.into()]).unwrap();
        peer.run(|there| {
            let buffer = recv_buffer(there.port());
            is_filled(&buffer, there.seen as u8);
            there.seen += 1;
        });
        match round {
            0 => kept = open_memory(),
            _ => assert_eq!(open_memory(), kept, "bytes of memory files in round {round}"),
        }
    }
    // Two buffers at a time.
    let (one, other) = (port.buffer(LEN).unwrap(), port.buffer(LEN).unwrap());
    fill(&one, 1);
    fill(&other, 2);
    is_filled(&one, 1);
    port.post_message(b"", [one.into(), other.into()]).unwrap();
    peer.run(|there| {
        let Message { buffers, .. } = recv(there.port());
        is_filled(&buffers[0], 1);
        is_filled(&buffers[1], 2);
    });
    // A shorter buffer reuses the memory, and has its own length.
    let shorter = port.buffer(LEN - 5000).unwrap();
    assert_eq!(shorter.len(), LEN - 5000);
    assert!(shorter.write_at(LEN - 5000, b"x").is_err());
    port.post_message(b"", [shorter.into()]).unwrap();
    peer.run(|there| assert_eq!(recv_buffer(there.port()).len(), LEN - 5000));
}

fn s37_a_buffer_may_go_back_and_forth(peer: &mut Peer) {
    let port = peer.channel();
    let mut buffer = port.buffer(LEN).unwrap();
    let mut kept = 0;
    for round in 0..50_u8 {
        fill(&buffer, round);
        port.post_message(b"", [buffer.into()]).unwrap();
        peer.run(|there| {
            let buffer = recv_buffer(there.port());
            is_filled(&buffer, there.seen as u8);
            fill(&buffer, 100 + there.seen as u8);
            there.port().post_message(b"", [buffer.into()]).unwrap();
            there.seen += 1;
        });
        buffer = recv_buffer(&port);
        is_filled(&buffer, 100 + round);
        match round {
            0 => kept = open_memory(),
            _ => assert_eq!(open_memory(), kept, "bytes of memory files in round {round}"),
        }
    }
}

fn s37_data_larger_than_the_ring_is_one_ordinary_message(peer: &mut Peer) {
    let port = peer.channel();
    let (witness, passenger) = pair();
    assert!(port.max_inline_len() < 100_000 && port.max_message_len() > LEN);
    let data: Vec<u8> = (0..LEN).map(|index| (index / 7) as u8).collect();
    for len in [port.max_inline_len() + 1, 100_000, LEN] {
        port.post_message(&data[..len], []).unwrap();
    }
    let mut reservation = port.reserve(LEN).unwrap();
    assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Borrowed));
    reservation.write_at(0, &data).unwrap();
    assert!(reservation.write_at(1, &data).is_err());
    reservation.commit_len(LEN - 1).unwrap();
    port.post_message(&data, [passenger.into(), buffer_of(b"pixels").into()]).unwrap();
    port.post_message(b"small", []).unwrap();
    peer.run(|there| {
        let expected = |len| (0..len).map(|index| (index / 7) as u8);
        let port = there.port();
        for len in [port.max_inline_len() + 1, 100_000] {
            assert!(recv(port).data.into_iter().eq(expected(len)), "{len}");
        }
        {
            let mut in_place = port.recv_ref().unwrap();
            assert_eq!((in_place.len(), in_place.take_transferred().buffers.len()), (LEN, 0));
            assert!(in_place.to_vec().unwrap().into_iter().eq(expected(LEN)));
        }
        let mut message = Message::new();
        port.recv_into(&mut message).unwrap();
        assert!(message.data.iter().copied().eq(expected(LEN - 1)));
        port.recv_into(&mut message).unwrap();
        assert!(message.data.iter().copied().eq(expected(LEN)));
        assert_eq!((message.ports.len(), bytes_of(&message.buffers[0])), (1, b"pixels".to_vec()));
        message.ports[0].post_message(b"it came along", []).unwrap();
        port.recv_into(&mut message).unwrap();
        assert_eq!((message.data.as_slice(), message.buffers.len()), (&b"small"[..], 0));
    });
    assert_eq!(text(&witness), "it came along");
}

fn s37_large_data_and_a_new_buffer_get_different_slots(peer: &mut Peer) {
    for kept in 0..4 {
        let options = ChannelOptions::new().cached_buffers(kept);
        let MessageChannel { port1: port, port2 } = options.create().unwrap();
        peer.give(port2);
        for _ in 0..kept {
            port.post_message(&[9; 100_000], []).unwrap();
        }
        peer.run(|there| {
            let port = there.ports.last().unwrap();
            while let Ok(message) = port.try_recv() {
                assert!(message.data == [9; 100_000]);
            }
        });
        for round in 0..4_u8 {
            // All slots hold buffers that came back; a new buffer takes the slot of one of them.
            let list = (0..2).map(|_| buffer_of(&[round; 5]).into());
            port.post_message(&[round; 100_000], list).unwrap();
            peer.run(|there| {
                let Message { data, buffers, .. } = recv(there.ports.last().unwrap());
                let round = there.seen as u8;
                assert!(data == [round; 100_000] && buffers.len() == 2, "round {round}");
                buffers.iter().for_each(|buffer| assert_eq!(bytes_of(buffer), [round; 5]));
                there.seen = (there.seen + 1) % 4;
            });
        }
    }
}

fn s38_a_buffer_that_travels_on_is_not_recycled(peer: &mut Peer) {
    let port = peer.channel();
    let mut third = peer.another();
    let onward = third.channel();
    peer.give(onward);
    for round in 0..20_u8 {
        let buffer = port.buffer(LEN).unwrap();
        fill(&buffer, round);
        port.post_message(b"", [buffer.into()]).unwrap();
        peer.run(|there| {
            let buffer = recv_buffer(&there.ports[0]);
            there.ports[1].post_message(b"", [buffer.into()]).unwrap();
        });
        third.run(|there| {
            let buffer = recv_buffer(there.port());
            there.buffers.push(buffer);
        });
    }
    // Each buffer has a single holder.
    third.run(|there| {
        for (round, buffer) in there.buffers.iter().enumerate() {
            is_filled(buffer, round as u8);
        }
    });
}

fn s38_recycled_buffers_move_with_their_port(peer: &mut Peer) {
    let (mut port, other) = pair();
    peer.give(other);
    let (carrier, arrivals) = pair();
    let mut moving: Vec<TransferBuffer> = Vec::new();
    for round in 0..10_u8 {
        // One buffer is dropped there, one is kept, and one comes back after the port has moved.
        for number in 0..3 {
            let buffer = port.buffer(LEN).unwrap();
            fill(&buffer, round * 3 + number);
            port.post_message(b"", [buffer.into()]).unwrap();
        }
        carrier.post_message(b"", [port.into()]).unwrap();
        port = recv_port(&arrivals);
        peer.run(|there| {
            for number in 0..3 {
                let buffer = recv_buffer(there.port());
                is_filled(&buffer, (there.seen * 3 + number) as u8);
                match number {
                    0 => drop(buffer),
                    1 => there.buffers.push(buffer),
                    _ => there.port().post_message(b"", [buffer.into()]).unwrap(),
                }
            }
            there.seen += 1;
            // The receiving end moves as well, with what it has cached.
            let moved = hop(there.ports.remove(0));
            there.ports.push(moved);
        });
        let back = recv_buffer(&port);
        is_filled(&back, round * 3 + 2);
        moving.push(back);
    }
    peer.run(|there| {
        for (round, buffer) in there.buffers.iter().enumerate() {
            is_filled(buffer, (round * 3 + 1) as u8);
        }
    });
    for (round, buffer) in moving.iter().enumerate() {
        is_filled(buffer, (round * 3 + 2) as u8);
    }
}

fn s39_release_buffers_frees_recycled_buffers(peer: &mut Peer) {
    let port = peer.channel();
    let (buffer, memory) = newest_memory(|| port.buffer(LEN).unwrap());
    let watch = Watch::new(&memory);
    drop(memory);
    port.post_message(b"", [buffer.into()]).unwrap();
    assert_eq!(port.release_buffers().unwrap(), 0, "the buffer is in transit");
    peer.run(|there| drop(recv(there.port())));
    assert!(!watch.is_freed());
    assert_eq!(port.release_buffers().unwrap(), 1);
    peer.run(|there| assert_empty(there.port()));
    watch.assert_freed();
    // The end of the peer frees the recycled buffers.
    let (buffer, memory) = newest_memory(|| port.buffer(LEN).unwrap());
    let watch = Watch::new(&memory);
    drop(memory);
    port.post_message(b"", [buffer.into()]).unwrap();
    peer.run(|there| drop(recv(there.port())));
    let reason = peer.death();
    peer.kill();
    assert_ended(&port, reason);
    watch.assert_freed();
}

fn s39_no_more_buffers_are_kept_than_the_channel_allows(peer: &mut Peer) {
    let options = ChannelOptions::new().cached_buffers(2).cached_bytes(2 * LEN as u64);
    let MessageChannel { port1: port, port2 } = options.create().unwrap();
    peer.give(port2);
    let before = open_memory();
    for round in 0..5 {
        let buffers: Vec<_> = (0..5).map(|_| port.buffer(LEN).unwrap()).collect();
        for buffer in buffers {
            port.post_message(b"", [buffer.into()]).unwrap();
        }
        let large = TransferBuffer::new(3 * LEN).unwrap();
        port.post_message(b"", [large.into()]).unwrap();
        let kept = open_memory() - before;
        assert!(kept <= 2 * (LEN as u64 + 4096), "{kept} bytes in round {round}");
        peer.run(|there| {
            for _ in 0..6 {
                drop(recv(there.port()));
            }
        });
    }
}

fn s10_a_buffer_that_came_back_goes_over_any_port(peer: &mut Peer) {
    let (port, other): (MessagePort, MessagePort) = (peer.channel(), peer.channel());
    for round in 0..3_u8 {
        let buffer = port.buffer(LEN).unwrap();
        fill(&buffer, round);
        port.post_message(&[round], [buffer.into()]).unwrap();
        peer.run(|there| {
            let mut message = recv(&there.ports[0]);
            let mut list = message.take_transfer_list();
            if message.data == [1] {
                list.clear(); // the buffer comes back without a message
            }
            there.ports[0].post_message(b"done", list).unwrap();
        });
        let mut message = recv(&port);
        let buffer = message.buffers.pop().unwrap_or_else(|| port.buffer(LEN).unwrap());
        is_filled(&buffer, round);
        fill(&buffer, 100 + round);
        other.post_message(&[round], [buffer.into()]).unwrap();
        peer.run(|there| {
            let message = recv(&there.ports[1]);
            is_filled(&message.buffers[0], 100 + message.data[0]);
            there.ports[1].post_message_detaching(b"", &message.transfer_list()).unwrap();
        });
        // From there it comes back once more, and goes on to the first peer.
        let buffer = recv_buffer(&other);
        is_filled(&buffer, 100 + round);
        port.post_message(b"", [buffer.into()]).unwrap();
        peer.run(|there| drop(recv_buffer(&there.ports[0])));
    }
}

fn s10_a_buffer_that_goes_elsewhere_is_forgotten(peer: &mut Peer) {
    let (port, other): (MessagePort, MessagePort) = (peer.channel(), peer.channel());
    let before = open_memory();
    port.post_message(b"", [port.buffer(LEN).unwrap().into()]).unwrap();
    peer.run(|there| drop(recv_buffer(&there.ports[0])));
    let buffer = port.buffer(LEN).unwrap();
    other.post_message(b"", [buffer.into()]).unwrap();
    assert_eq!(port.release_buffers().unwrap(), 1);
    peer.run(|there| {
        drop(recv_buffer(&there.ports[1]));
        there.ports[1].post_message(b"", []).unwrap();
        // Reads the record by which its entry is forgotten.
        assert!(matches!(there.ports[0].try_recv(), Err(TryRecvError::Empty)));
    });
    recv(&other);
    assert_eq!(open_memory(), before);
    // The slot is used again.
    let again = port.buffer(LEN).unwrap();
    fill(&again, 3);
    port.post_message(b"", [again.into()]).unwrap();
    peer.run(|there| is_filled(&recv_buffer(&there.ports[0]), 3));
}
