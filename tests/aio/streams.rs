//! Ports as streams and sinks.

use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use messageport::aio::AsyncPort;
use messageport::{CloseReason, Message, PostErrorKind, RecvError, Transferable};
use tokio::task::yield_now;

use crate::tools::luggage::Luggage;
use crate::tools::{assert_entangled, pair};
use crate::{async_pair, cancelled_after, fill, on_runtimes, small_pair, soon};

on_runtimes! {
    a_stream_gives_the_messages_and_ends_with_the_peer,
    a_sink_takes_messages_in_order_and_waits_for_room,
    forwarding_makes_an_echo,
    s50_a_message_is_forwarded_with_everything_on_it,
    the_sink_gives_back_a_message_that_cannot_be_posted,
    a_cancelled_send_is_posted_later_and_in_order,
    the_message_that_the_sink_holds_can_be_taken_back,
    closing_a_sink_only_flushes_it,
}

/// A message with a transfer list.
fn message_with(data: Vec<u8>, list: impl IntoIterator<Item = Transferable>) -> Message {
    let mut message = Message::from(data);
    message.extend(list);
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

async fn s50_a_message_is_forwarded_with_everything_on_it() {
    let (mut a, mut b) = async_pair();
    let mut luggage = Luggage::pack();
    a.send(message_with(b"all".to_vec(), luggage.take())).await.expect("room");
    // From stream to sink, and by each call of a task that posts.
    let message = soon(b.try_next()).await.expect("no error").expect("a message");
    luggage.assert_whole(message.transfer_list());
    b.send(message).await.expect("room");
    let mut message = soon(a.try_next()).await.expect("no error").expect("a message");
    let list = message.take_transfer_list();
    a.post_message_wait(&message.data, list).await.expect("room");
    let mut message = soon(b.recv()).await.expect("a message");
    let mut list = message.take_transfer_list();
    b.post_message_draining_wait(&message.data, &mut list).await.expect("room");
    assert!(list.is_empty());
    let mut message = soon(a.recv()).await.expect("a message");
    let list = message.take_transfer_list();
    a.post_message(&message.data, list).expect("room");
    let message = soon(b.recv()).await.expect("a message");
    assert_eq!(message.data, b"all");
    luggage.assert_whole(message.transfer_list());
}

async fn the_sink_gives_back_a_message_that_cannot_be_posted() {
    let (mut a, b) = async_pair();
    let (x, y) = pair();
    let too_long = vec![1; a.max_message_len() + 1];
    let error = a.send(message_with(too_long.clone(), [y.into()])).await.expect_err("the message is too long");
    let (kind, mut message) = error.into_parts();
    assert!(matches!(kind, PostErrorKind::TooLarge { .. }), "{kind:?}");
    assert_eq!(message.data, too_long);
    message.data.truncate(10);
    drop(b);
    let (kind, mut message) = a.send(message).await.expect_err("the peer is gone").into_parts();
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    assert_entangled(&x, &message.ports[0]);

    // So does a message that was waiting for space when the peer went.
    let (mut a, b) = small_pair();
    fill(&mut a);
    message.data = vec![1; 500];
    a.feed(message).await.expect("the sink holds the message");
    let waiting = tokio::spawn(async move { a.flush().await.expect_err("the peer is gone") });
    yield_now().await;
    drop(b);
    let (kind, message) = soon(waiting).await.expect("no panic").into_parts();
    assert!(matches!(kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{kind:?}");
    assert_entangled(&x, &message.ports[0]);
}

async fn a_cancelled_send_is_posted_later_and_in_order() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    assert!(cancelled_after(1, a.send(text("first"))).await.is_none());
    // The sink holds the message, and nothing overtakes it.
    let error = a.post_message(b"second", []).expect_err("the queue is full").kind;
    assert!(matches!(error, PostErrorKind::Full(_)), "{error:?}");
    for _ in 0..count {
        b.recv().expect("a message");
    }
    a.post_message(b"second", []).expect("room");
    for expected in ["first", "second"] {
        assert_eq!(b.recv().expect("a message").data, expected.as_bytes());
    }
    // Nor does a post that waits.
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

async fn the_message_that_the_sink_holds_can_be_taken_back() {
    let (mut a, b) = small_pair();
    let count = fill(&mut a);
    let (x, y) = pair();
    a.feed(message_with(vec![1; 500], [y.into()])).await.expect("the sink holds the message");
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
    let a = AsyncPort::join(sink, stream).expect("halves of one port");
    drop(a);
    assert!(matches!(soon(b.recv()).await, Err(RecvError::Ended(CloseReason::Closed))));
}
