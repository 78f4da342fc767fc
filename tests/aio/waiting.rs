//! Waiting for space, and both halves of a port that wait at once.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use messageport::aio::{AsyncPort, AsyncRecvHalf, AsyncSendHalf};
use messageport::{CloseReason, FullCause, MessagePort, PostError, PostErrorKind, RecvError};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::task::{spawn_blocking, yield_now};

use crate::tools::{PATIENCE, pair, pair_of};
use crate::{async_pair, cancelled_after, fill, on_runtimes, small_pair, soon};

on_runtimes! {
    space_wakes_a_sender,
    space_wakes_a_sender_while_the_receiving_half_waits,
    space_wakes_a_sender_whose_receiving_half_is_gone,
    both_halves_wait_and_both_directions_flow,
    a_wake_up_that_the_other_half_reads_is_passed_on,
    traffic_the_other_way_does_not_hide_a_wake_up,
    wake_ups_for_a_sender_do_not_fill_the_lane,
    a_post_waits_for_room_in_a_full_lane,
    a_sender_is_woken_over_a_lane_that_is_full,
    a_close_by_one_half_wakes_the_other,
    a_close_by_the_peer_wakes_both_halves,
    a_peer_that_stops_reading_wakes_a_sender,
    a_close_by_any_half_ends_all_four_in_any_order,
}

async fn space_wakes_a_sender() {
    let (mut a, mut b) = small_pair();
    for len in [0, 100, a.max_message_len()] {
        let count = fill(&mut a);
        let task = tokio::spawn(async move {
            a.post_message_wait(&vec![7; len], []).await.expect("room");
            a
        });
        yield_now().await;
        let reader = spawn_blocking(move || {
            for _ in 0..count {
                b.recv_timeout(PATIENCE).expect("a message");
            }
            assert_eq!(b.recv_timeout(PATIENCE).expect("a message").data, vec![7; len]);
            b
        });
        a = soon(task).await.expect("no panic");
        b = soon(reader).await.expect("no panic");
    }
}

async fn space_wakes_a_sender_while_the_receiving_half_waits() {
    let (mut a, b) = small_pair();
    for round in 0..50_u8 {
        let count = fill(&mut a);
        let (mut sender, mut receiver) = a.split();
        let receiving = tokio::spawn(async move {
            let data = receiver.recv().await.expect("a message").data;
            (receiver, data)
        });
        let sending = tokio::spawn(async move {
            sender.post_message_wait(&[round; 500], []).await.expect("room");
            sender
        });
        yield_now().await;
        for _ in 0..count {
            b.recv().expect("a message");
        }
        let sender = soon(sending).await.expect("no panic");
        assert_eq!(b.recv().expect("a message").data, [round; 500]);
        assert!(!receiving.is_finished());
        b.post_message(&[round], []).expect("room");
        let (receiver, data) = soon(receiving).await.expect("no panic");
        assert_eq!(data, [round]);
        a = AsyncPort::join(sender, receiver).expect("halves of one port");
    }
}

async fn space_wakes_a_sender_whose_receiving_half_is_gone() {
    for dropped_first in [true, false] {
        let (mut a, b) = small_pair();
        let count = fill(&mut a);
        let (mut sender, receiver) = a.split();
        let receiver = if dropped_first {
            drop(receiver);
            None
        } else {
            Some(receiver)
        };
        let sending = tokio::spawn(async move {
            sender.post_message_wait(&[9; 500], []).await.expect("room");
            sender
        });
        yield_now().await;
        drop(receiver);
        for _ in 0..count {
            b.recv().expect("a message");
        }
        let _sender = soon(sending).await.expect("no panic");
        assert_eq!(b.recv().expect("a message").data, [9; 500]);
    }
}

async fn both_halves_wait_and_both_directions_flow() {
    const COUNT: u32 = 20_000;
    let (a, b) = pair_of(4096);
    let mut tasks = Vec::new();
    for port in [a, b] {
        let (mut sender, mut receiver) = AsyncPort::new(port).expect("a registration").split();
        tasks.push(tokio::spawn(async move {
            for number in 0..COUNT {
                let mut data = number.to_ne_bytes().to_vec();
                data.resize(4 + number as usize % 50, 0);
                sender.post_message_wait(&data, []).await.expect("room");
            }
            // A half that is done must not end the other half: it lives on.
            (Some(sender), None)
        }));
        tasks.push(tokio::spawn(async move {
            for number in 0..COUNT {
                assert_eq!(receiver.recv().await.expect("a message").data[..4], number.to_ne_bytes());
            }
            (None, Some(receiver))
        }));
    }
    let mut halves = Vec::new();
    for task in tasks {
        halves.push(soon(task).await.expect("no panic"));
    }
}

async fn a_wake_up_that_the_other_half_reads_is_passed_on() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    let (mut sender, mut receiver) = a.split();
    let receiving = tokio::spawn(async move { (receiver.recv().await, receiver) });
    yield_now().await;
    // The sender reads the packet before the runtime handles it.
    b.post_message(b"for the receiver", []).expect("room");
    assert!(cancelled_after(1, sender.post_message_wait(&[0; 500], [])).await.is_none());
    let (result, mut receiver) = soon(receiving).await.expect("no panic");
    assert_eq!(result.expect("a message").data, b"for the receiver");

    let sending = tokio::spawn(async move {
        sender.post_message_wait(&[4; 500], []).await.expect("room");
        sender
    });
    yield_now().await;
    for _ in 0..count {
        b.recv().expect("a message");
    }
    assert!(cancelled_after(1, receiver.recv()).await.is_none());
    let _sender = soon(sending).await.expect("no panic");
    assert_eq!(b.recv().expect("a message").data, [4; 500]);
}

async fn traffic_the_other_way_does_not_hide_a_wake_up() {
    let (mut a, b) = small_pair();
    fill(&mut a);
    let (mut sender, mut receiver) = a.split();
    let stop = Arc::new(AtomicBool::new(false));
    let receiving = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                receiver.recv().await.expect("a message");
            }
            receiver
        })
    };
    let sending = tokio::spawn(async move {
        for _ in 0..500 {
            sender.post_message_wait(&[1; 700], []).await.expect("room");
        }
        sender
    });
    let peer = spawn_blocking(move || {
        let mut received = 0;
        while received < 500 {
            received += usize::from(b.recv_timeout(PATIENCE).expect("a message").data == [1; 700]);
            for _ in 0..3 {
                b.post_message_timeout(b"noise", [], PATIENCE).expect("room in time");
            }
        }
        stop.store(true, Ordering::Relaxed);
        b.post_message_timeout(b"the last", [], PATIENCE).expect("room in time");
        b
    });
    drop((soon(sending).await, soon(peer).await.expect("no panic"), soon(receiving).await));
}

async fn wake_ups_for_a_sender_do_not_fill_the_lane() {
    // More wake-ups than a lane holds, and the receiving half never receives.
    let (a, b) = pair_with_short_lanes();
    let (mut a, mut b) = (AsyncPort::new(a).expect("a registration"), AsyncPort::new(b).expect("a registration"));
    let reading = tokio::spawn(async move {
        for _ in 0..3000 {
            b.recv().await.expect("a message");
        }
        b
    });
    for _ in 0..3000 {
        // Two of these messages fill the queue, so that each waits for the one before it.
        a.post_message_wait(&[3; 450_000], []).await.expect("room");
    }
    let mut b = soon(reading).await.expect("no panic");
    // The lane still has room for descriptors.
    for _ in 0..20 {
        b.post_message(b"a port", [pair().0.into()]).expect("room on the lane");
    }
    for _ in 0..20 {
        assert_eq!(soon(a.recv()).await.expect("a message").ports.len(), 1);
    }
}

/// A pair whose lanes are full before its rings are.
fn pair_with_short_lanes() -> (MessagePort, MessagePort) {
    let (a, b) = pair_of(1 << 20);
    for port in [&a, &b] {
        setsockopt(&port.as_fd(), sockopt::SndBuf, &20_000).expect("a socket");
    }
    (a, b)
}

/// Posts messages with a port until the lane is full; the ring is not.
fn fill_lane(port: &mut AsyncPort) -> usize {
    for count in 0.. {
        if let Err(error) = port.post_message(b"", [pair().0.into()]) {
            assert!(matches!(error.kind, PostErrorKind::Full(FullCause::Lane)), "{error:?}");
            return count;
        }
    }
    unreachable!()
}

async fn a_post_waits_for_room_in_a_full_lane() {
    let (a, b) = pair_with_short_lanes();
    let mut a = AsyncPort::new(a).expect("a registration");
    let count = fill_lane(&mut a);
    let (x, y) = pair();
    let task = tokio::spawn(async move {
        a.post_message_wait(b"one more", [y.into()]).await.expect("room");
        a
    });
    yield_now().await;
    for _ in 0..count {
        b.recv().expect("a message");
    }
    let reader = spawn_blocking(move || (b.recv_timeout(PATIENCE).expect("a message"), b));
    let (message, _b) = soon(reader).await.expect("no panic");
    crate::tools::assert_entangled(&x, &message.ports[0]);
    let _a = soon(task).await.expect("no panic");
}

async fn a_sender_is_woken_over_a_lane_that_is_full() {
    let (a, b) = pair_with_short_lanes();
    let mut a = AsyncPort::new(a).expect("a registration");
    let mut b = AsyncPort::new(b).expect("a registration");
    let count = fill_lane(&mut b);
    let queued = fill(&mut a);
    let task = tokio::spawn(async move {
        a.post_message_wait(&[5; 500], []).await.expect("room");
        a
    });
    yield_now().await;
    for _ in 0..queued {
        soon(b.recv()).await.expect("a message");
    }
    let mut a = soon(task).await.expect("no panic");
    assert_eq!(soon(b.recv()).await.expect("a message").data, [5; 500]);
    for _ in 0..count {
        assert_eq!(soon(a.recv()).await.expect("a message").ports.len(), 1);
    }
}

async fn a_close_by_one_half_wakes_the_other() {
    let (mut a, _b) = small_pair();
    fill(&mut a);
    let (mut sender, receiver) = a.split();
    let sending = tokio::spawn(async move { sender.post_message_wait(&[0; 500], []).await });
    yield_now().await;
    receiver.close();
    let result = soon(sending).await.expect("no panic");
    assert!(matches!(result, Err(PostError { kind: PostErrorKind::PortClosed, .. })), "{result:?}");

    let (a, mut b) = async_pair();
    let (sender, mut receiver) = a.split();
    let receiving = tokio::spawn(async move { receiver.recv().await });
    yield_now().await;
    sender.close();
    let result = soon(receiving).await.expect("no panic");
    assert!(matches!(result, Err(RecvError::PortClosed)), "{result:?}");
    assert!(matches!(soon(b.recv()).await, Err(RecvError::Ended(CloseReason::Closed))));
}

async fn a_close_by_the_peer_wakes_both_halves() {
    for dropped in [false, true] {
        let (mut a, b) = small_pair();
        fill(&mut a);
        let (mut sender, mut receiver) = a.split();
        let (x, y) = pair();
        let sending = tokio::spawn(async move {
            let mut list = vec![y.into()];
            let result = sender.post_message_draining_wait(b"a port", &mut list).await;
            (result, list)
        });
        let receiving = tokio::spawn(async move { receiver.recv().await });
        yield_now().await;
        let kept = if dropped {
            drop(b);
            None
        } else {
            b.close();
            Some(b)
        };
        let (result, mut list) = soon(sending).await.expect("no panic");
        assert!(matches!(result, Err(PostErrorKind::PeerGone(CloseReason::Closed))), "{result:?}");
        let Some(messageport::Transferable::Port(y)) = list.pop() else { panic!("the list must come back") };
        crate::tools::assert_entangled(&x, &y);
        let result = soon(receiving).await.expect("no panic");
        assert!(matches!(result, Err(RecvError::Ended(CloseReason::Closed))), "{result:?}");
        drop(kept);
    }
}

async fn a_peer_that_stops_reading_wakes_a_sender() {
    let (mut a, b) = small_pair();
    fill(&mut a);
    let (_b_sends, b_receives) = b.split();
    let task = tokio::spawn(async move {
        for _ in 0..100 {
            a.post_message_wait(&[0; 500], []).await.expect("the message is dropped");
        }
    });
    yield_now().await;
    drop(b_receives);
    soon(task).await.expect("no panic");
}

/// One of the four halves of a pair.
enum Half {
    Sends(AsyncSendHalf),
    Receives(AsyncRecvHalf),
}

impl Half {
    /// Waits for the end of the port. Returns its text.
    async fn wait(&mut self) -> String {
        match self {
            Self::Sends(half) => {
                let error = half.post_message_wait(&[0; 600], []).await.expect_err("the port has ended");
                error.to_string()
            }
            Self::Receives(half) => loop {
                match half.recv().await {
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                }
            },
        }
    }

    fn close(&self) {
        match self {
            Self::Sends(half) => half.close(),
            Self::Receives(half) => half.close(),
        }
    }
}

async fn a_close_by_any_half_ends_all_four_in_any_order() {
    for order in 0..24_usize {
        for closes in 0..4 {
            let mut halves = Vec::new();
            for port in <[MessagePort; 2]>::from(pair_of(4096)) {
                let (mut sends, receives) = AsyncPort::new(port).expect("a registration").split();
                // Only one direction is full. Its receiver must not read: that would let the sender go on.
                while halves.is_empty() && sends.post_message(&[0; 500], []).is_ok() {}
                halves.extend([Half::Sends(sends), Half::Receives(receives)]);
            }
            let mut left: Vec<usize> = (0..4).collect();
            // The receiver of the full direction does not wait, since it would read. Nor does the sender of the other
            // direction.
            let (waiting, mut others): (Vec<_>, Vec<_>) =
                halves.into_iter().enumerate().partition(|(index, _)| matches!(index, 0 | 1) && *index != closes);
            let tasks: Vec<_> = waiting
                .into_iter()
                .map(|(index, mut half)| tokio::spawn(async move { (half.wait().await, index, half) }))
                .collect();
            yield_now().await;
            others.iter().find(|(index, _)| *index == closes).expect("the closing half does not wait").1.close();
            let expected = if closes < 2 { "the port has been closed" } else { "the peer was closed" };
            for task in tasks {
                let (end, index, half) = soon(task).await.expect("no panic");
                assert_eq!(end, expected, "half {index}, half {closes} closes");
                others.push((index, half));
            }
            let mut choice = order;
            while !left.is_empty() {
                let next = left.remove(choice % left.len());
                choice /= left.len() + 1;
                let position = others.iter().position(|(index, _)| *index == next).expect("a half that is left");
                let (_, mut half) = others.swap_remove(position);
                soon(half.wait()).await;
                drop(half);
            }
        }
    }
}
