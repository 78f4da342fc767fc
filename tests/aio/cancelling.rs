//! A future can be dropped at any point, and nothing is lost.

use std::time::Duration;

use messageport::aio::AsyncPort;
use messageport::{Message, Transferable};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

use crate::tools::random::Random;
use crate::tools::{PATIENCE, assert_entangled, pair, pair_of};
use crate::{async_pair, cancelled_after, fill, on_runtimes, small_pair, soon};

on_runtimes! {
    a_dropped_recv_leaves_the_message,
    a_dropped_recv_that_was_woken_leaves_the_message,
    a_dropped_post_posts_nothing_and_leaves_the_list,
    a_dropped_post_that_was_woken_posts_nothing,
    a_recv_that_times_out_loses_no_message,
    nothing_is_lost_by_random_drops,
    a_task_that_is_aborted_leaves_its_port_usable,
}

async fn a_dropped_recv_leaves_the_message() {
    let (mut a, mut b) = async_pair();
    for round in 0..100_u8 {
        assert!(cancelled_after(usize::from(round % 2), a.recv()).await.is_none());
        b.post_message(&[round], []).expect("room");
        assert_eq!(soon(a.recv()).await.expect("a message").data, [round]);
    }
}

async fn a_dropped_recv_that_was_woken_leaves_the_message() {
    let (mut a, mut b) = async_pair();
    for round in 0..100_u8 {
        assert!(cancelled_after(1, a.recv()).await.is_none());
        b.post_message(&[round], []).expect("room");
        // The runtime handles the edge, and wakes a future that is gone.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if round % 2 == 0 {
            assert_eq!(soon(a.recv()).await.expect("a message").data, [round]);
        } else {
            let mut message = Message::new();
            soon(a.recv_into(&mut message)).await.expect("a message");
            assert_eq!(message.data, [round]);
        }
    }
}

async fn a_dropped_post_posts_nothing_and_leaves_the_list() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    let (x, y) = pair();
    let mut list = vec![Transferable::from(y)];
    for _ in 0..3 {
        assert!(cancelled_after(1, a.post_message_draining_wait(&[1; 600], &mut list)).await.is_none());
        assert_eq!(list.len(), 1);
    }
    for _ in 0..count {
        b.recv().expect("a message");
    }
    b.try_recv().expect_err("nothing was posted");
    soon(a.post_message_draining_wait(&[2; 600], &mut list)).await.expect("room");
    assert!(list.is_empty());
    let message = b.recv().expect("a message");
    assert_eq!(message.data, [2; 600]);
    assert_entangled(&x, &message.ports[0]);
}

async fn a_dropped_post_that_was_woken_posts_nothing() {
    let (mut a, b) = small_pair();
    for round in 0..50_u8 {
        let count = fill(&mut a);
        let (x, y) = pair();
        let mut list = vec![Transferable::from(y)];
        assert!(cancelled_after(1, a.post_message_draining_wait(b"never", &mut list)).await.is_none());
        for _ in 0..count {
            b.recv().expect("a message");
        }
        yield_now().await;
        b.try_recv().expect_err("nothing was posted");
        assert_eq!(list.len(), 1);
        a.post_message(&[round], list).expect("room");
        assert_entangled(&x, &b.recv().expect("a message").ports[0]);
    }
}

async fn a_recv_that_times_out_loses_no_message() {
    let (mut a, b) = small_pair();
    let peer = spawn_blocking(move || {
        for number in 0..3000_u32 {
            b.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).expect("room");
        }
        b
    });
    let mut expected = 0_u32;
    while expected < 3000 {
        // Sometimes the timeout passes at the very moment at which the message comes.
        let time = Duration::from_micros(u64::from(expected % 50));
        if let Ok(message) = timeout(time, a.recv()).await {
            assert_eq!(message.expect("a message").data, expected.to_ne_bytes());
            expected += 1;
        }
    }
    drop(soon(peer).await);
}

/// Posts numbers, some with a port, over a small queue. Sender and receiver drop their futures at random.
async fn nothing_is_lost_by_random_drops() {
    const COUNT: u32 = 4000;
    let random = Random::new("random drops");
    let (a, b) = pair_of(4096);
    let (mut sender, a_receives) = AsyncPort::new(a).expect("a registration").split();
    let (b_sends, mut receiver) = AsyncPort::new(b).expect("a registration").split();
    let choices = random.fork();
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            let mut list = Vec::new();
            let mut kept = None;
            if choices.one_in(20) {
                let (x, y) = pair();
                x.post_message(&number.to_ne_bytes(), []).expect("room");
                list.push(Transferable::from(y));
                kept = Some(x);
            }
            let mut data = number.to_ne_bytes().to_vec();
            data.resize(4 + choices.below(600), 0);
            let things = list.len();
            loop {
                let polls = choices.below(4);
                match cancelled_after(polls, sender.post_message_draining_wait(&data, &mut list)).await {
                    Some(result) => break result.expect("the peer reads"),
                    None => assert_eq!(list.len(), things, "a dropped post has taken a thing"),
                }
                yield_now().await;
            }
            assert!(list.is_empty());
            drop(kept);
        }
        sender
    });
    let choices = random.fork();
    let receiving = tokio::spawn(async move {
        for number in 0..COUNT {
            let message = loop {
                if let Some(result) = cancelled_after(choices.below(4), receiver.recv()).await {
                    break result.expect("a message");
                }
                yield_now().await;
            };
            assert_eq!(message.data[..4], number.to_ne_bytes());
            for port in message.ports {
                // The message queued in the port is there, although its peer may be gone.
                assert_eq!(port.recv().expect("a message").data, number.to_ne_bytes());
            }
            if choices.one_in(200) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        receiver
    });
    let halves = (soon(sending).await.expect("no panic"), soon(receiving).await.expect("no panic"));
    drop((halves, a_receives, b_sends));
}

async fn a_task_that_is_aborted_leaves_its_port_usable() {
    let (a, mut b) = async_pair();
    let shared = std::sync::Arc::new(tokio::sync::Mutex::new(a));
    for round in 0..20_u8 {
        let task = {
            let shared = std::sync::Arc::clone(&shared);
            tokio::spawn(async move { shared.lock().await.recv().await })
        };
        yield_now().await;
        task.abort();
        match soon(task).await {
            Err(error) => assert!(error.is_cancelled()),
            Ok(result) => panic!("expected no message: {result:?}"),
        }
        b.post_message(&[round], []).expect("room");
        assert_eq!(soon(shared.lock().await.recv()).await.expect("a message").data, [round]);
    }
}
