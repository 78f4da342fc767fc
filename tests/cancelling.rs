//! Cancelled calls: what a server finds out about a request whose answer nobody wants.

mod tools;

use std::time::Duration;

use messageport::{
    AnswerError, CallError, Client, MessagePort, Responder, Server, TypedClient, TypedServer, parent_port,
};

use tools::child::{Process, Role};
use tools::{PATIENCE, pair};

const ROLES: &[Role] = &[("client", client)];

fn client_and_server() -> (Client, Server) {
    let (a, b): (MessagePort, MessagePort) = pair();
    (Client::new(a), Server::new(b))
}

fn next(server: &Server) -> (Vec<u8>, Responder) {
    let (request, responder) = server.recv_timeout(PATIENCE).expect("a request");
    (request.data, responder)
}

#[test]
fn a_call_that_is_dropped_is_cancelled_and_no_other() {
    let (client, server) = client_and_server();
    let (kept, dropped) = (client.start(b"kept", []).unwrap(), client.start(b"dropped", []).unwrap());
    let (_, for_kept) = next(&server);
    let (_, for_dropped) = next(&server);
    assert!(!for_kept.is_cancelled() && !for_dropped.is_cancelled());
    drop(dropped);
    assert!(!for_kept.is_cancelled() && for_dropped.is_cancelled());
    // It is still a request: an answer is dropped on arrival, and the entry of the call is used again.
    for_dropped.answer(b"in vain", []).unwrap();
    let again = client.start(b"again", []).unwrap();
    let (_, for_again) = next(&server);
    assert!(!for_again.is_cancelled() && !for_kept.is_cancelled());
    for_again.answer(b"for again", []).unwrap();
    for_kept.answer(b"for kept", []).unwrap();
    assert_eq!((again.wait().unwrap().data, kept.wait().unwrap().data), (b"for again".to_vec(), b"for kept".to_vec()));
}

#[test]
fn a_request_that_is_still_queued_is_known_to_be_cancelled() {
    let (client, server) = client_and_server();
    // One after the other, by one entry of the table: every second call is kept open until all are posted.
    let mut kept = Vec::new();
    for number in 0..100_u8 {
        let call = client.start(&[number], []).unwrap();
        if number % 2 == 1 {
            kept.push(call);
        }
    }
    for number in 0..100 {
        let (data, responder) = next(&server);
        assert_eq!((data, responder.is_cancelled()), (vec![number], number % 2 == 0));
        responder.answer(&[number], []).unwrap();
    }
    for (index, call) in kept.into_iter().enumerate() {
        assert_eq!(call.wait().unwrap().data, [2 * index as u8 + 1]);
    }
}

#[test]
fn every_call_of_a_crowd_is_cancelled_by_itself() {
    let (client, server) = client_and_server();
    let mut calls: Vec<_> = (0..600_u32).map(|number| client.start(&number.to_ne_bytes(), []).unwrap()).collect();
    let responders: Vec<_> = calls.iter().map(|_| next(&server).1).collect();
    // Beyond the first 512 a call is seen to be cancelled only when the client has gone.
    for (number, responder) in responders.iter().enumerate() {
        assert!(!responder.is_cancelled());
        drop(calls.remove(0));
        assert_eq!(responder.is_cancelled(), number < 512, "call {number}");
        assert!(responders[number + 1..].iter().take(3).all(|later| !later.is_cancelled()));
    }
    drop(client);
    assert!(responders.iter().all(Responder::is_cancelled));
}

#[test]
fn a_call_whose_time_is_over_is_cancelled() {
    let (client, server) = client_and_server();
    let late = client.call_timeout(b"late", [], Duration::from_millis(1));
    assert!(matches!(late, Err(CallError::NoAnswer(AnswerError::TimedOut))));
    let mut patient = client.start(b"patient", []).unwrap();
    assert!(matches!(patient.wait_timeout(Duration::from_millis(1)), Err(AnswerError::TimedOut)));
    let (for_late, for_patient) = (next(&server), next(&server));
    assert_eq!((for_late.0, for_late.1.is_cancelled()), (b"late".to_vec(), true));
    assert_eq!((for_patient.0, for_patient.1.is_cancelled()), (b"patient".to_vec(), false));
    for_patient.1.answer(b"at last", []).unwrap();
    assert_eq!(patient.wait().unwrap().data, b"at last");
}

#[test]
fn typed_calls_are_cancelled_too() {
    let (a, b) = pair();
    let client: TypedClient<u32, u32> = TypedClient::new(a);
    let server: TypedServer<u32, u32> = TypedServer::new(b);
    let call = client.start(1).unwrap();
    let (_, responder) = server.recv_timeout(PATIENCE).unwrap();
    assert!(!responder.is_cancelled());
    drop(call);
    assert!(responder.is_cancelled());
}

#[test]
fn the_death_of_the_client_cancels_its_calls() {
    let (mut process, port) = Process::start("client");
    let server = Server::new(port);
    let (_, wanted) = next(&server);
    // The second request tells that the third call, which came before it, was dropped.
    let (_, dropped) = next(&server);
    let (_, last) = next(&server);
    assert!(!wanted.is_cancelled() && dropped.is_cancelled() && !last.is_cancelled());
    process.kill();
    assert!(wanted.is_cancelled() && last.is_cancelled());
}

fn client() {
    let client = Client::new(parent_port().expect("a port"));
    let _wanted = client.start(b"wanted", []).expect("room");
    drop(client.start(b"dropped", []).expect("room"));
    let _last = client.start(b"last", []).expect("room");
    loop {
        std::thread::park();
    }
}
