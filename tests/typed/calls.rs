//! Request and answer, at both ends, in the three settings.

use std::any::Any;
use std::cell::Cell;
use std::time::Duration;

use messageport::TypedPostErrorKind::Post;
use messageport::{
    AnswerError, BadTransfer, BadValue, CallError, Client, CloseReason, MessagePort, PostErrorKind, RecvError,
    RecvTimeoutError, Server, TransferBuffer, TryRecvError, TypedClient, TypedPendingCall, TypedServer,
};
use serde::{Deserialize, Serialize};

use crate::harness::*;

rules! {
    answers_find_their_calls_in_any_order,
    requests_of_bytes_are_answered_with_bytes,
    ports_and_buffers_travel_both_ways,
    a_dropped_request_ends_its_call_at_once,
    the_end_of_the_server_ends_every_open_call,
    answers_arrive_before_the_end_of_the_server,
    the_end_of_the_client_ends_the_server,
    an_abandoned_call_leaves_nothing_behind,
    a_call_can_be_waited_for_again_after_its_deadline,
    a_message_that_is_no_request_is_an_error_and_ends_its_call,
    an_answer_that_cannot_be_decoded_is_an_error_of_its_call,
    a_request_that_is_not_posted_comes_back,
    a_dropped_request_ends_its_call_although_answers_fill_the_queue,
}

const SHORT: Duration = Duration::from_millis(5);

thread_local! {
    static KEPT: Cell<Option<Box<dyn Any>>> = const { Cell::new(None) };
}

/// Keeps a thing from one step of the peer for the next.
fn keep(thing: impl Any) {
    KEPT.set(Some(Box::new(thing)));
}

/// Takes the thing that was kept.
#[track_caller]
fn kept<T: Any>() -> T {
    *KEPT.take().expect("a thing that was kept").downcast().expect("the type of that thing")
}

/// A server on the port of the peer.
fn server<Req, Ans>(there: &mut There) -> TypedServer<Req, Ans> {
    TypedServer::new(there.ports.remove(0))
}

/// A client whose server runs in the steps of the peer.
fn client<Req, Ans>(peer: &mut Peer) -> TypedClient<Req, Ans> {
    TypedClient::new(peer.channel())
}

#[track_caller]
fn answer<Ans: serde::de::DeserializeOwned>(mut call: TypedPendingCall<Ans>) -> Result<Ans, AnswerError> {
    match call.wait_timeout(PATIENCE) {
        Err(AnswerError::TimedOut) => panic!("no answer in time"),
        answer => answer,
    }
}

fn answers_find_their_calls_in_any_order(peer: &mut Peer) {
    let client = client::<u64, u64>(peer);
    let calls: Vec<_> = (0..50).map(|number| client.start(number).unwrap()).collect();
    peer.run(|there| {
        let server = server::<u64, u64>(there);
        let mut requests: Vec<_> = (0..50).map(|_| server.recv_timeout(PATIENCE).unwrap()).collect();
        // The last call first, then the odd ones, then the rest.
        let (number, responder) = requests.pop().unwrap();
        responder.answer(number * number).unwrap();
        let (odd, even): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(number, _)| number % 2 == 1);
        for (number, responder) in odd.into_iter().chain(even) {
            responder.answer(number * number).unwrap();
        }
    });
    for (number, call) in (0..50).zip(calls) {
        assert_eq!(answer(call).unwrap(), number * number);
    }
}

fn requests_of_bytes_are_answered_with_bytes(peer: &mut Peer) {
    let client = Client::new(peer.channel());
    let mut call = client.start(b"stressed", []).unwrap();
    let empty = client.start(b"", []).unwrap();
    assert!(call.try_wait().unwrap().is_none());
    peer.run(|there| {
        let server = Server::new(there.ports.remove(0));
        for _ in 0..2 {
            let (mut message, responder) = server.recv_timeout(PATIENCE).unwrap();
            message.data.reverse();
            responder.answer(&message.data, []).unwrap();
        }
        assert!(matches!(server.try_recv(), Err(TryRecvError::Empty)));
        assert!(matches!(server.recv_timeout(SHORT), Err(RecvTimeoutError::TimedOut)));
    });
    assert_eq!(call.wait_timeout(PATIENCE).unwrap().data, b"desserts");
    assert!(matches!(call.wait_timeout(PATIENCE), Err(AnswerError::Taken)));
    assert!(matches!(call.try_wait(), Err(AnswerError::Taken)));
    assert_eq!(empty.wait().unwrap().data, b"");
    if peer.is_concurrent() {
        let client = Client::new(peer.channel());
        peer.begin(|there| {
            Server::new(there.ports.remove(0)).serve(|message| message.data.reverse()).unwrap();
        });
        assert_eq!(client.call(b"drawer", []).unwrap().data, b"reward");
        assert_eq!(client.call_timeout(b"live", [], PATIENCE).unwrap().data, b"evil");
        drop(client);
        peer.finish();
    }
}

#[derive(Serialize, Deserialize)]
struct Job {
    frame: TransferBuffer,
    progress: MessagePort,
}

fn ports_and_buffers_travel_both_ways(peer: &mut Peer) {
    let client = client::<Job, (TransferBuffer, MessagePort)>(peer);
    let (here, there) = pair();
    let call = client.start(Job { frame: buffer_of(b"pixels"), progress: there }).unwrap();
    peer.run(|there| {
        let server = server::<Job, (TransferBuffer, MessagePort)>(there);
        let (Job { frame, progress }, responder) = server.recv_timeout(PATIENCE).unwrap();
        progress.post_message(b"half", []).unwrap();
        frame.write_at(0, b"P").unwrap();
        let (more, further) = pair();
        responder.answer((frame, further)).unwrap();
        there.ports.extend([progress, more]);
    });
    assert_eq!(text(&here), "half");
    let (frame, port) = answer(call).unwrap();
    assert_eq!(bytes_of(&frame), b"Pixels");
    port.post_message(b"and back", []).unwrap();
    peer.run(|there| assert_eq!(text(&there.ports[1]), "and back"));
}

fn a_dropped_request_ends_its_call_at_once(peer: &mut Peer) {
    let client = client::<u8, u8>(peer);
    let (first, second) = (client.start(1).unwrap(), client.start(2).unwrap());
    peer.run(|there| {
        let server = server::<u8, u8>(there);
        let (_, responder) = server.recv_timeout(PATIENCE).unwrap();
        let (_, other) = server.recv_timeout(PATIENCE).unwrap();
        drop(responder);
        other.answer(4).unwrap();
        // The server and the channel live on.
        keep(server);
    });
    assert!(matches!(answer(first), Err(AnswerError::Dropped)));
    assert_eq!(answer(second).unwrap(), 4);
    peer.run(|_| drop(kept::<TypedServer<u8, u8>>()));
}

fn the_end_of_the_server_ends_every_open_call(peer: &mut Peer) {
    let client = client::<u64, u64>(peer);
    let mut calls: Vec<_> = (0..20).map(|number| client.start(number).unwrap()).collect();
    peer.run(|there| {
        let server = server::<u64, u64>(there);
        let (number, responder) = server.recv_timeout(PATIENCE).unwrap();
        responder.answer(number).unwrap();
        let (_, held) = server.recv_timeout(PATIENCE).unwrap();
        // Open and unread when the process is killed.
        keep((server, held));
    });
    assert_eq!(answer(calls.remove(0)).unwrap(), 0);
    if peer.setting != Setting::TwoProcesses {
        peer.run(|_| drop(KEPT.take()));
    }
    peer.kill();
    let reason = peer.death();
    for call in calls {
        let error = answer(call).unwrap_err();
        assert!(matches!(error, AnswerError::Failed(RecvError::Ended(seen)) if seen == reason), "{error:?}");
    }
    let error = client.start(7).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::PeerGone(seen)) if seen == reason));
    let Err(CallError::NotPosted(error)) = client.call(7) else { panic!("the server is gone") };
    assert_eq!(error.into_inner(), 7);
}

fn answers_arrive_before_the_end_of_the_server(peer: &mut Peer) {
    let client = client::<u64, u64>(peer);
    let calls: Vec<_> = (0..4).map(|number| client.start(number).unwrap()).collect();
    peer.run(|there| {
        let server = server::<u64, u64>(there);
        let (_, first) = server.recv_timeout(PATIENCE).unwrap();
        let (_, second) = server.recv_timeout(PATIENCE).unwrap();
        first.answer(10).unwrap();
        drop(server);
        let error = second.answer(11).unwrap_err();
        assert!(matches!(error.kind, Post(PostErrorKind::PortClosed)));
        assert_eq!(error.into_inner().1, 11);
    });
    let outcomes: Vec<_> = calls.into_iter().map(answer).collect();
    assert!(matches!(outcomes[0], Ok(10)));
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Err(AnswerError::Failed(RecvError::Ended(CloseReason::Closed)))));
    }
}

fn the_end_of_the_client_ends_the_server(peer: &mut Peer) {
    let client = client::<u64, u64>(peer);
    let call = client.start(1).unwrap();
    drop(client); // the open call keeps the channel
    peer.run(|there| {
        let server = server::<u64, u64>(there);
        let (number, responder) = server.recv_timeout(PATIENCE).unwrap();
        responder.answer(number + 1).unwrap();
        keep(server);
    });
    assert_eq!(answer(call).unwrap(), 2);
    peer.run(|_| {
        let server = kept::<TypedServer<u64, u64>>();
        assert!(matches!(server.recv(), Err(RecvError::Ended(CloseReason::Closed))));
        server.serve(|_| unreachable!()).unwrap();
    });
}

type Ports = TypedServer<u8, MessagePort>;

fn an_abandoned_call_leaves_nothing_behind(peer: &mut Peer) {
    let client = client::<u8, MessagePort>(peer);
    drop(client.start(1).unwrap());
    assert!(matches!(client.call_timeout(2, SHORT), Err(CallError::NoAnswer(AnswerError::TimedOut))));
    let answered = client.start(3).unwrap();
    peer.run(|there| {
        let server = server::<u8, MessagePort>(there);
        for _ in 0..3 {
            let (_, responder) = server.recv_timeout(PATIENCE).unwrap();
            let (here, inside) = pair();
            responder.answer(inside).unwrap();
            there.ports.push(here);
        }
        keep(server);
    });
    // An answer that has come and is not taken.
    let untaken = client.start(4).unwrap();
    peer.run(|there| {
        let server = kept::<Ports>();
        let (_, responder) = server.recv_timeout(PATIENCE).unwrap();
        let (here, inside) = pair();
        responder.answer(inside).unwrap();
        there.ports.push(here);
        keep(server);
    });
    let port = answer(answered).unwrap();
    let last = client.start(5).unwrap();
    peer.run(|_| {
        let server = kept::<Ports>();
        drop(server.recv_timeout(PATIENCE).unwrap());
        keep(server);
    });
    assert!(matches!(answer(last), Err(AnswerError::Dropped)));
    drop(untaken);
    peer.run(|there| {
        let ends = there.ports.split_off(0);
        assert_ended(&ends[0], CloseReason::Closed);
        assert_ended(&ends[1], CloseReason::Closed);
        assert_empty(&ends[2]);
        assert_ended(&ends[3], CloseReason::Closed);
        drop(kept::<Ports>());
    });
    assert_ended(&port, CloseReason::Closed);
}

fn a_call_can_be_waited_for_again_after_its_deadline(peer: &mut Peer) {
    let client = client::<u64, u64>(peer);
    let mut call = client.start(1).unwrap();
    assert!(matches!(call.wait_timeout(SHORT), Err(AnswerError::TimedOut)));
    assert!(matches!(call.wait_timeout(Duration::ZERO), Err(AnswerError::TimedOut)));
    assert!(call.try_wait().unwrap().is_none());
    peer.run(|there| {
        let server = server::<u64, u64>(there);
        let (number, responder) = server.recv_timeout(PATIENCE).unwrap();
        responder.answer(number + 1).unwrap();
    });
    assert_eq!(call.wait_timeout(PATIENCE).unwrap(), 2);
}

fn a_message_that_is_no_request_is_an_error_and_ends_its_call(peer: &mut Peer) {
    let port = peer.channel();
    // Not requests: one is too short, and one is an answer.
    port.post_message(b"short", []).unwrap();
    port.post_message(&[0xff; 12], []).unwrap();
    let (witness, inside) = pair();
    port.post_message(&[], [inside.into()]).unwrap();
    let client = Client::new(port);
    let wrong = client.start(&[2, 2, 2, 2], []).unwrap();
    let right = client.start(&[1], []).unwrap();
    peer.run(|there| {
        let server = server::<bool, bool>(there);
        for _ in 0..3 {
            let error = server.recv_timeout(PATIENCE).unwrap_err();
            let RecvTimeoutError::Failed(RecvError::MessageError { reason: BadTransfer::NoRequest, .. }) = error else {
                panic!("{error:?}");
            };
        }
        let error = server.recv_timeout(PATIENCE).unwrap_err();
        let RecvTimeoutError::Failed(RecvError::MessageError { reason, data }) = error else { panic!("{error:?}") };
        assert_eq!(reason, BadTransfer::Value(BadValue::Encoding));
        assert_eq!(data, [2, 2, 2, 2]);
        let (request, responder) = server.recv_timeout(PATIENCE).unwrap();
        responder.answer(!request).unwrap();
    });
    assert!(matches!(wrong.wait(), Err(AnswerError::Dropped)));
    assert_eq!(right.wait().unwrap().data, [0]);
    assert_ended(&witness, CloseReason::Closed);
}

fn an_answer_that_cannot_be_decoded_is_an_error_of_its_call(peer: &mut Peer) {
    let client = client::<u8, bool>(peer);
    let calls = [client.start(7).unwrap(), client.start(1).unwrap()];
    peer.run(|there| {
        let server = server::<u8, u8>(there);
        for _ in 0..2 {
            let (number, responder) = server.recv_timeout(PATIENCE).unwrap();
            responder.answer(number).unwrap();
        }
    });
    let [wrong, right] = calls.map(answer);
    let Err(AnswerError::Failed(RecvError::MessageError { reason, data })) = wrong else { panic!("{wrong:?}") };
    assert_eq!((reason, &data[..]), (BadTransfer::Value(BadValue::Encoding), &[7][..]));
    assert!(right.unwrap());
}

fn a_request_that_is_not_posted_comes_back(peer: &mut Peer) {
    let (here, there) = pair_of(4096);
    peer.give(there);
    let client = TypedClient::<(MessagePort, Vec<u8>), ()>::new(here);
    let (inside, other) = pair();
    let error = client.start((inside, vec![0; 4096])).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::TooLarge { .. })));
    let (inside, _) = error.into_inner();
    let mut open = Vec::new();
    let error = loop {
        match client.start((pair().0, vec![0; 200])) {
            Ok(call) => open.push(call),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind, Post(PostErrorKind::Full(_))));
    let result = client.call_timeout((inside, vec![0; 200]), SHORT);
    let Err(CallError::NotPosted(error)) = result else { panic!("{result:?}") };
    assert!(matches!(error.kind, Post(PostErrorKind::TimedOut)));
    assert_entangled(&error.into_inner().0, &other);
}

type Large = TypedServer<u8, [[u8; 32]; 8]>;

fn a_dropped_request_ends_its_call_although_answers_fill_the_queue(peer: &mut Peer) {
    let (here, there) = pair_of(4096);
    peer.give(there);
    let client = TypedClient::<u8, [[u8; 32]; 8]>::new(here);
    let calls: Vec<_> = (0..40).map(|number| client.start(number).unwrap()).collect();
    peer.run(|there| {
        let server = Large::new(there.ports.remove(0));
        let mut filled = false;
        for _ in 0..40 {
            let (_, responder) = server.recv_timeout(PATIENCE).unwrap();
            if !filled && let Err(error) = responder.answer([[7; 32]; 8]) {
                assert!(matches!(error.kind, Post(PostErrorKind::Full(_))));
                filled = true;
            }
        }
        assert!(filled);
        keep(server);
    });
    if peer.is_concurrent() {
        // The server waits for requests. It must report the drops meanwhile.
        peer.begin(|_| {
            let server = kept::<Large>();
            server.serve(|_| [[8; 32]; 8]).unwrap();
        });
        let (answered, dropped): (Vec<_>, Vec<_>) = calls.into_iter().map(answer).partition(Result::is_ok);
        assert!(answered.len() > 5 && dropped.len() > 5);
        assert!(dropped.iter().all(|outcome| matches!(outcome, Err(AnswerError::Dropped))));
        assert_eq!(client.call_timeout(1, PATIENCE).unwrap(), [[8; 32]; 8]);
        drop(client);
        peer.finish();
    } else {
        peer.run(|_| drop(kept::<Large>()));
    }
}
