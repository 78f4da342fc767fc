//! Receiving in a task, and turning a port into an `AsyncPort` and back.

use std::thread;

use messageport::aio::AsyncPort;
use messageport::{CloseReason, Message, MessagePort, PostErrorKind, RecvError, TransferBuffer, TryRecvError};

use crate::tools::ledger::alone;
use crate::tools::{assert_entangled, pair};
use crate::{async_pair, fill, on_runtimes, small_pair, soon};

on_runtimes! {
    messages_queued_before_are_received,
    a_message_wakes_the_task,
    a_burst_arrives_in_order,
    ports_and_buffers_arrive_and_work,
    recv_into_reuses_the_memory_of_the_message,
    the_end_comes_after_the_last_message,
    a_port_can_leave_its_runtime,
    a_port_can_be_transferred_after_it_waited,
    halves_of_different_ports_do_not_join,
    echo_between_tasks,
}

async fn messages_queued_before_are_received() {
    let (a, b) = pair();
    b.post_message(b"early", []).expect("room");
    let mut a = AsyncPort::new(a).expect("a registration");
    assert_eq!(soon(a.recv()).await.expect("a message").data, b"early");
    assert!(matches!(a.try_recv(), Err(TryRecvError::Empty)));
    b.post_message(b"later", []).expect("room");
    assert_eq!(a.try_recv().expect("a message").data, b"later");
}

async fn a_message_wakes_the_task() {
    let (a, b) = pair();
    let mut a = AsyncPort::new(a).expect("a registration");
    let peer = thread::spawn(move || {
        for number in 0..200_u32 {
            b.post_message(&number.to_ne_bytes(), []).expect("room");
            assert_eq!(b.recv().expect("an answer").data, number.to_ne_bytes());
        }
    });
    for number in 0..200_u32 {
        let message = soon(a.recv()).await.expect("a message");
        assert_eq!(message.data, number.to_ne_bytes());
        a.post_message(&message.data, []).expect("room");
    }
    peer.join().expect("no panic");
}

async fn a_burst_arrives_in_order() {
    let (mut a, b) = small_pair();
    let peer = thread::spawn(move || {
        for number in 0..50_000_u32 {
            b.post_message_wait(&number.to_ne_bytes(), []).expect("room, in time");
        }
    });
    for number in 0..50_000_u32 {
        assert_eq!(soon(a.recv()).await.expect("a message").data, number.to_ne_bytes());
    }
    peer.join().expect("no panic");
    assert!(matches!(soon(a.recv()).await, Err(RecvError::Ended(CloseReason::Closed))));
}

async fn ports_and_buffers_arrive_and_work() {
    let (mut a, mut b) = async_pair();
    let (x, y) = pair();
    let buffer = TransferBuffer::new(10_000).expect("memory");
    buffer.write_at(9_990, b"the end").expect("inside");
    let task = tokio::spawn(async move {
        let Message { data, mut ports, buffers, .. } = b.recv().await.expect("a message");
        let mut port = AsyncPort::new(ports.remove(0)).expect("a registration");
        assert_eq!(port.recv().await.expect("a message").data, b"in the port");
        let mut list = buffers.into_iter().map(Into::into).collect();
        port.post_message_draining_wait(&data, &mut list).await.expect("room");
        assert!(list.is_empty());
        (b, port)
    });
    let mut list = vec![buffer.into(), y.into()];
    a.post_message_draining_wait(b"things", &mut list).await.expect("room");
    x.post_message(b"in the port", []).expect("room");
    let mut x = AsyncPort::new(x).expect("a registration");
    let answer = soon(x.recv()).await.expect("a message");
    let mut end = [0; 7];
    answer.buffers[0].read_at(9_990, &mut end).expect("inside");
    assert_eq!((&*answer.data, &end), (&b"things"[..], b"the end"));
    drop(soon(task).await.expect("no panic"));
}

async fn recv_into_reuses_the_memory_of_the_message() {
    let (mut a, mut b) = async_pair();
    let mut message = Message::new();
    for len in [1000, 10, 0] {
        b.post_message(&vec![7; len], []).expect("room");
        soon(a.recv_into(&mut message)).await.expect("a message");
        assert_eq!(message.data, vec![7; len]);
        assert!(message.data.capacity() >= 1000);
    }
    b.close();
    assert!(soon(a.recv_into(&mut message)).await.is_err());
    assert!(message.data.is_empty());
}

async fn the_end_comes_after_the_last_message() {
    for dropped in [false, true] {
        let (mut a, b) = async_pair();
        let task = tokio::spawn(async move {
            let mut count = 0;
            let end = loop {
                match a.recv().await {
                    Ok(_) => count += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(end, RecvError::Ended(CloseReason::Closed)), "{end:?}");
            assert!(matches!(a.recv().await, Err(RecvError::Ended(CloseReason::Closed))));
            let error = a.post_message_wait(b"to nobody", []).await.expect_err("the peer is gone");
            assert!(matches!(error.kind, PostErrorKind::PeerGone(CloseReason::Closed)), "{error:?}");
            count
        });
        let mut b = b;
        for _ in 0..100 {
            b.post_message_wait(b"one of many", []).await.expect("room");
            tokio::task::yield_now().await;
        }
        if dropped {
            drop(b);
            assert_eq!(soon(task).await.expect("no panic"), 100);
        } else {
            b.close();
            assert_eq!(soon(task).await.expect("no panic"), 100);
            assert!(matches!(b.recv().await, Err(RecvError::PortClosed)));
        }
    }
}

async fn a_port_can_leave_its_runtime() {
    let (a, mut b) = async_pair();
    b.post_message(b"queued", []).expect("room");
    let a = a.into_port();
    assert_eq!(a.recv().expect("a message").data, b"queued");
    let b = tokio::task::spawn_blocking(move || {
        let b = b.into_port();
        assert_entangled(&a, &b);
        drop(a);
        b
    });
    let mut b = AsyncPort::new(soon(b).await.expect("no panic")).expect("a registration");
    assert!(matches!(soon(b.recv()).await, Err(RecvError::Ended(CloseReason::Closed))));
}

async fn a_port_can_be_transferred_after_it_waited() {
    let (mut a, b) = small_pair();
    // Both doorbells of the port are armed.
    assert!(crate::cancelled_after(1, a.recv()).await.is_none());
    let count = fill(&mut a);
    assert!(crate::cancelled_after(1, a.post_message_wait(&[0; 500], [])).await.is_none());
    let (carrier1, carrier2) = pair();
    carrier1.post_message(b"", [a.into_port().into()]).expect("a port can be posted");
    let a: MessagePort = carrier2.recv().expect("a message").ports.remove(0);
    for _ in 0..count {
        b.recv().expect("a message");
    }
    assert_entangled(&a, &b);
    // The port can wait in a task again.
    let mut a = AsyncPort::new(a).expect("a registration");
    let task = tokio::spawn(async move { a.recv().await.expect("a message").data });
    b.post_message(b"after the journey", []).expect("room");
    assert_eq!(soon(task).await.expect("no panic"), b"after the journey");
}

async fn halves_of_different_ports_do_not_join() {
    let (a, b) = async_pair();
    let ((a_sends, a_receives), (b_sends, b_receives)) = (a.split(), b.split());
    let error = AsyncPort::join(a_sends, b_receives).expect_err("halves of two ports");
    let (a_sends, b_receives) = error.into_inner();
    let mut a = AsyncPort::join(a_sends, a_receives).expect("halves of one port");
    let mut b = AsyncPort::join(b_sends, b_receives).expect("halves of one port");
    a.post_message(b"whole", []).expect("room");
    assert_eq!(soon(b.recv()).await.expect("a message").data, b"whole");
}

async fn echo_between_tasks() {
    let (mut a, mut b) = async_pair();
    let echo = tokio::spawn(async move {
        while let Ok(message) = b.recv().await {
            b.post_message_wait(&message.data, []).await.expect("room");
        }
    });
    for number in 0..2000_u32 {
        a.post_message(&number.to_ne_bytes(), []).expect("room");
        assert_eq!(soon(a.recv()).await.expect("an answer").data, number.to_ne_bytes());
    }
    drop(a);
    soon(echo).await.expect("no panic");
}

#[test]
fn outside_a_runtime_the_port_comes_back() {
    let _alone = alone();
    let (a, b) = pair();
    let error = AsyncPort::new(a).expect_err("there is no runtime");
    assert!(error.to_string().starts_with("cannot watch"), "{error}");
    assert_entangled(&error.into_inner(), &b);
}

#[test]
fn a_runtime_that_has_shut_down_is_an_error_and_the_port_goes_on() {
    let _alone = alone();
    let (a, b) = pair();
    let first = crate::current_thread();
    let mut a = first.block_on(async { AsyncPort::new(a) }).expect("a registration");
    drop(first);
    b.post_message(b"there", []).expect("room");
    crate::current_thread().block_on(async {
        assert_eq!(a.recv().await.expect("no need to wait").data, b"there");
        assert!(matches!(a.recv().await, Err(RecvError::ResourceExhausted(_))));
    });
    assert_entangled(&a.into_port(), &b);
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_runtime_without_a_clock_is_refused_at_once() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async { drop(AsyncPort::new(pair().0)) });
}
