//! Ports as streams and sinks.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use messageport::aio::{AsyncPort, SendError};
use messageport::{
    CloseReason, FrozenBuffer, Message, MessagePort, PostErrorKind, RecvError, SharedBuffer, TransferBuffer,
    Transferable,
};
use tokio::task::yield_now;

use crate::tools::{assert_entangled, pair};
use crate::{async_pair, cancelled_after, fill, on_runtimes, small_pair, soon};

on_runtimes! {
    a_stream_gives_the_messages_and_ends_with_the_peer,
    a_sink_takes_messages_in_order_and_waits_for_room,
    forwarding_makes_an_echo,
    a_port_goes_through_both,
    the_sink_gives_back_what_cannot_be_posted,
    a_cancelled_send_is_posted_later_and_in_order,
    what_the_sink_holds_can_be_taken_back,
    closing_a_sink_only_flushes_it,
}

fn with_ports(data: Vec<u8>, ports: Vec<MessagePort>) -> Message {
    let mut message = Message::from(data);
    message.ports = ports;
    message
}

fn text(data: &str) -> Message {
    Message::from(data.as_bytes().to_vec())
}

async fn a_stream_gives_the_messages_and_ends_with_the_peer() {
    let (a, mut b) = async_pair();
    for number in 0..10_u8 {
        b.post_message(&[number], []).expect("room");
    }
    drop(b);
    let evens: Vec<u8> = soon(
        a.map_ok(|message| message.data[0]).try_filter(|number| std::future::ready(number % 2 == 0)).try_collect(),
    )
    .await
    .expect("a close is no error");
    assert_eq!(evens, [0, 2, 4, 6, 8]);

    let (mut a, b) = async_pair();
    let waiting = tokio::spawn(async move {
        assert!(a.next().await.is_none());
        assert!(a.next().await.is_none());
    });
    b.close();
    soon(waiting).await.expect("no panic");

    let (mut a, _b) = async_pair();
    a.close();
    assert!(soon(a.next()).await.is_none());
}

async fn a_sink_takes_messages_in_order_and_waits_for_room() {
    let (a, b) = small_pair();
    let reader = tokio::task::spawn_blocking(move || {
        for number in 0..2000_u32 {
            let message = b.recv().expect("a message");
            assert_eq!(message.data[..4], number.to_ne_bytes());
        }
        b
    });
    let messages = stream::iter(0..2000_u32).map(|number| {
        let mut data = number.to_ne_bytes().to_vec();
        data.resize(4 + number as usize % 300, 0);
        Ok(Message::from(data))
    });
    soon(messages.forward(a)).await.expect("everything is posted");
    drop(soon(reader).await.expect("no panic"));
}

async fn forwarding_makes_an_echo() {
    let (a, b) = async_pair();
    let echo = tokio::spawn(async move {
        let (sink, stream) = b.split();
        let stream = stream.map_err(|error| panic!("{error}"));
        stream.forward(sink).await.expect("the peer reads its answers");
    });
    let (mut sink, mut stream) = a.split();
    let sending = tokio::spawn(async move {
        for number in 0..5000_u32 {
            sink.feed(Message::from(number.to_ne_bytes().to_vec())).await.expect("room");
        }
        sink.flush().await.expect("room");
        sink
    });
    for number in 0..5000_u32 {
        let message = soon(stream.next()).await.expect("an answer").expect("no error");
        assert_eq!(message.data, number.to_ne_bytes());
    }
    let sink = soon(sending).await.expect("no panic");
    drop((sink, stream));
    soon(echo).await.expect("no panic");
}

async fn a_port_goes_through_both() {
    let (mut a, mut b) = async_pair();
    let (x, y) = pair();
    let buffer = TransferBuffer::new(4096).expect("memory");
    let mut message = with_ports(b"both".to_vec(), vec![y]);
    message.buffers.push(buffer);
    a.send(message).await.expect("room");
    let message = soon(b.try_next()).await.expect("no error").expect("a message");
    assert_eq!((&*message.data, message.buffers[0].len()), (&b"both"[..], 4096));
    assert_entangled(&x, &message.ports[0]);

    // And everything else that a message can carry.
    let shared = SharedBuffer::new(8).expect("memory");
    let file = File::open("/dev/null").expect("it is there");
    let list = [
        FrozenBuffer::from_bytes(b"frozen").expect("memory").into(),
        shared.clone().into(),
        Transferable::from(OwnedFd::from(file)),
    ];
    b.post_message_wait(b"all", list).await.expect("room");
    let message = soon(a.try_next()).await.expect("no error").expect("a message");
    a.send(message).await.expect("room");
    let message = soon(b.try_next()).await.expect("no error").expect("a message");
    assert_eq!((&*message.data, &message.frozen[0][..]), (&b"all"[..], &b"frozen"[..]));
    message.shared[0].atomic_u64(0).expect("inside").store(7, Ordering::SeqCst);
    assert_eq!(shared.atomic_u64(0).expect("inside").load(Ordering::SeqCst), 7);
    assert_eq!(message.descriptors.len(), 1);
}

async fn the_sink_gives_back_what_cannot_be_posted() {
    let (mut a, b) = async_pair();
    let (x, y) = pair();
    let too_long = vec![1; a.max_message_len() + 1];
    let SendError { kind, mut message } =
        a.send(with_ports(too_long.clone(), vec![y])).await.expect_err("the message is too long");
    assert!(matches!(kind, PostErrorKind::TooLarge { .. }), "{kind:?}");
    assert_eq!(message.data, too_long);
    message.data.truncate(10);
    drop(b);
    let SendError { kind, message } = a.send(message).await.expect_err("nobody is there");
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    assert_entangled(&x, &message.ports[0]);

    // The same for one that was waiting for room when the peer went.
    let (mut a, b) = small_pair();
    fill(&mut a);
    a.feed(with_ports(vec![1; 500], message.ports)).await.expect("it is held");
    let waiting = tokio::spawn(async move { a.flush().await.expect_err("nobody reads") });
    yield_now().await;
    drop(b);
    let SendError { kind, message } = soon(waiting).await.expect("no panic");
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    assert_entangled(&x, &message.ports[0]);
}

async fn a_cancelled_send_is_posted_later_and_in_order() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    assert!(cancelled_after(1, a.send(text("first"))).await.is_none());
    // It is held, and nothing overtakes it.
    let error = a.post_message(b"second", []).expect_err("the queue is full").kind;
    assert!(matches!(error, PostErrorKind::Full(_)), "{error:?}");
    for _ in 0..count {
        b.recv().expect("a message");
    }
    a.post_message(b"second", []).expect("room");
    for expected in ["first", "second"] {
        assert_eq!(b.recv().expect("a message").data, expected.as_bytes());
    }
    // The same for a post that waits.
    let count = fill(&mut a);
    assert!(cancelled_after(1, a.send(text("third"))).await.is_none());
    let posting = tokio::spawn(async move {
        a.post_message_wait(b"fourth", []).await.expect("room");
        a
    });
    yield_now().await;
    for _ in 0..count {
        b.recv().expect("a message");
    }
    let _a = soon(posting).await.expect("no panic");
    for expected in ["third", "fourth"] {
        assert_eq!(b.recv().expect("a message").data, expected.as_bytes());
    }
}

async fn what_the_sink_holds_can_be_taken_back() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    let (x, y) = pair();
    let message = with_ports(vec![1; 500], vec![y]);
    a.feed(message).await.expect("it is held");
    let message = a.take_unsent().expect("the message");
    assert_entangled(&x, &message.ports[0]);
    assert!(a.take_unsent().is_none());
    let a = a.into_port();
    for _ in 0..count {
        b.recv().expect("a message");
    }
    assert_entangled(&a, &b);
}

async fn closing_a_sink_only_flushes_it() {
    let (a, mut b) = async_pair();
    let (mut sink, mut stream) = a.split();
    sink.feed(text("the last word")).await.expect("room");
    SinkExt::<Message>::close(&mut sink).await.expect("room");
    assert_eq!(soon(b.recv()).await.expect("a message").data, b"the last word");
    b.post_message(b"the answer to it", []).expect("the port is open");
    assert_eq!(soon(stream.recv()).await.expect("a message").data, b"the answer to it");
    let a = AsyncPort::join(sink, stream).expect("they are of one port");
    drop(a);
    assert!(matches!(soon(b.recv()).await, Err(RecvError::Ended(CloseReason::Closed))));
}
