//! A peer that sends any bytes: each message is a value or an error, and nothing is left of either.

use std::collections::BTreeMap;
use std::time::Duration;

use messageport::{
    AnswerError, BadTransfer, BadValue, Client, CloseReason, MessagePort, RecvError, Server, TransferBuffer,
    Transferable, TryRecvError, TypedClient, TypedPort, TypedServer,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::harness::luggage::{KINDS, Luggage};
use crate::harness::*;

/// Every kind of part of a value.
#[derive(Serialize, Deserialize)]
enum Wild {
    Port(MessagePort),
    Buffer(TransferBuffer),
    Typed(TypedPort<u8, Box<Wild>>),
    Both(Option<MessagePort>, Vec<TransferBuffer>),
    Map(BTreeMap<String, (u16, MessagePort)>),
    Nested(Box<Wild>),
    List(Vec<Wild>),
    Data { text: String, number: i128, letter: char, flags: [bool; 3], float: f64 },
    Nothing,
}

/// Bytes that may pass for an encoding: small numbers are indices, variants and lengths.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![6 => 0..10_u8, 1 => any::<u8>()], 0..40)
}

/// Posts `data` with these numbers of ports and buffers. Returns the other ends of the ports.
fn post_raw(port: &MessagePort, data: &[u8], ports: usize, buffers: usize) -> Vec<MessagePort> {
    let (here, there): (Vec<_>, Vec<_>) = (0..ports).map(|_| pair()).unzip();
    let buffers = (0..buffers).map(|_| TransferBuffer::new(0).unwrap().into());
    let list: Vec<Transferable> = there.into_iter().map(Into::into).chain(buffers).collect();
    port.post_message(data, list).unwrap();
    here
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_value_or_an_error(messages in vec((bytes(), 0..4_usize, 0..4_usize), 1..4)) {
        let (port, peer) = pair();
        let receiver: TypedPort<(), Wild> = peer.into();
        let mut others = Vec::new();
        for (data, ports, buffers) in &messages {
            others.extend(post_raw(&port, data, *ports, *buffers));
        }
        for (data, ..) in &messages {
            match receiver.try_recv() {
                Ok(value) => drop(value),
                Err(TryRecvError::Failed(RecvError::MessageError { reason: BadTransfer::Value(_), data: seen })) => {
                    prop_assert_eq!(&seen, data);
                }
                Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
            }
        }
        // Value or error, its things are gone.
        others.iter().for_each(|other| assert_ended(other, CloseReason::Closed));
        let (here, there) = pair();
        TypedPort::<Wild, ()>::from(port).post(Wild::Both(Some(there), vec![])).unwrap();
        let Ok(Wild::Both(Some(there), _)) = receiver.try_recv() else { panic!("a good value") };
        assert_entangled(&here, &there);
    }

    #[test]
    fn a_damaged_value_is_a_value_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..3_usize) {
        let (port, peer) = pair();
        let sender: TypedPort<Wild, ()> = port.into();
        let (here, there) = pair();
        let value = Wild::List(vec![
            Wild::Port(there),
            Wild::Both(None, vec![TransferBuffer::new(1).unwrap()]),
            Wild::Data { text: "text".into(), number: -1, letter: 'x', flags: [true; 3], float: 0.5 },
        ]);
        sender.post(value).unwrap();
        let mut message = recv(&peer);
        let at = at.index(message.data.len());
        message.data[at] = byte;
        message.data.truncate(message.data.len() - cut);
        let things = message.ports.drain(..).map(Transferable::from).chain(message.buffers.drain(..).map(Into::into));
        sender.as_port().post_message(&message.data, things.collect::<Vec<_>>()).unwrap();
        let receiver: TypedPort<(), Wild> = peer.into();
        match receiver.try_recv() {
            Ok(value) => drop(value),
            Err(TryRecvError::Failed(RecvError::MessageError { .. })) => {}
            Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
        }
        assert_ended(&here, CloseReason::Closed);
    }

    #[test]
    fn a_client_survives_any_server(
        messages in vec((bytes(), any::<u64>(), 0..4_u64, 0..3_u64, 0..3_usize), 0..20),
        calls in 1..4_usize,
    ) {
        let (port, peer) = pair();
        let client = Client::new(port);
        let mut open: Vec<_> = (0..calls).map(|_| client.start(b"", []).unwrap()).collect();
        let mut others = Vec::new();
        for (data, wild, kind, place, ports) in messages {
            let mut data = data;
            if wild % 4 != 0 {
                // The number of a call, real or possible.
                data.extend((kind << 62 | (wild % 2) << 32 | place).to_ne_bytes());
            }
            others.extend(post_raw(&peer, &data, ports, 0));
        }
        for call in &mut open {
            match call.try_wait() {
                Ok(_) | Err(AnswerError::Dropped) => {}
                Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
            }
        }
        drop(peer);
        drop(open);
        drop(client);
        others.iter().for_each(|other| assert_ended(other, CloseReason::Closed));
    }

    #[test]
    fn a_server_survives_any_client(messages in vec((bytes(), any::<u64>(), 0..3_usize), 0..10)) {
        let (port, peer) = pair();
        let mut others = Vec::new();
        for (mut data, number, ports) in messages {
            data.extend(number.to_ne_bytes());
            others.extend(post_raw(&port, &data, ports, 0));
        }
        // The client also stops posting, and never receives.
        let (sender, receiver) = port.split();
        drop(sender);
        let server = TypedServer::<Wild, u8>::new(peer);
        loop {
            match server.try_recv() {
                Ok((_, responder)) => drop(responder),
                Err(TryRecvError::Failed(RecvError::MessageError { .. })) => {}
                Err(TryRecvError::Empty) => break,
                Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
            }
        }
        others.iter().for_each(|other| assert_ended(other, CloseReason::Closed));
        drop(receiver);
        server.serve(|_| 0).unwrap();
    }
}

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf(Box<MessagePort>),
    Node(Box<Tree>),
    Nodes(Vec<Tree>),
    Maybe(Option<Box<Tree>>),
}

#[test]
fn an_endlessly_nested_value_does_not_exhaust_the_stack() {
    // On a thread with a usual stack. A debug build uses the most of it.
    let body = || {
        for level in [&[1][..], &[2, 1], &[3, 1]] {
            let (port, peer) = pair_of(16 << 20);
            let (here, there) = pair();
            let mut data = level.repeat(2 << 20);
            data.extend([0, 0]);
            port.post_message(&data, [there.into()]).unwrap();
            let receiver: TypedPort<(), Tree> = peer.into();
            let Err(RecvError::MessageError { reason, data: seen }) = receiver.recv() else { panic!("a value") };
            assert_eq!(reason, BadTransfer::Value(BadValue::TooDeep));
            assert_eq!(seen, data);
            assert_ended(&here, CloseReason::Closed);
            // A hundred levels are accepted.
            let mut tree = Tree::Leaf(Box::new(pair().0));
            for _ in 0..33 {
                tree = Tree::Maybe(Some(Box::new(Tree::Nodes(vec![Tree::Node(Box::new(tree))]))));
            }
            TypedPort::<Tree, ()>::from(port).post(tree).unwrap();
            receiver.recv().unwrap();
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(body).unwrap().join().unwrap();
}

#[test]
fn a_length_without_its_data_takes_no_memory() {
    let (port, peer) = pair();
    let receiver: TypedPort<(), Vec<[u64; 32]>> = peer.into();
    let mut data = vec![0xff; 9];
    data.push(1); // u64::MAX elements
    port.post_message(&data, []).unwrap();
    assert!(matches!(receiver.recv(), Err(RecvError::MessageError { .. })));
}

#[test]
fn answers_without_a_call_delay_a_call_only_briefly() {
    let (port, peer) = pair_of(1 << 20);
    let client = TypedClient::<u8, u8>::new(port);
    let mut call = client.start(1).unwrap();
    for _ in 0..10_000 {
        peer.post_message(&[0xff; 9], []).unwrap();
    }
    let server = TypedServer::<u8, u8>::new(peer);
    server.recv().unwrap().1.answer(2).unwrap();
    // A call that does not wait skips some of these answers, and not all.
    assert!(call.try_wait().unwrap().is_none());
    assert!(matches!(call.wait_timeout(Duration::ZERO), Err(AnswerError::TimedOut)));
    assert_eq!(call.wait_timeout(PATIENCE).unwrap(), 2);
}

#[test]
fn a_request_of_bytes_is_answered_with_bytes() {
    let (port, peer) = pair();
    let client = Client::new(port);
    let call = client.start(b"\x01x", []).unwrap();
    let server = TypedServer::<String, String>::from(Server::new(peer));
    let (request, responder) = server.recv().unwrap();
    responder.answer(request + "!").unwrap();
    assert_eq!(call.wait().unwrap().data, b"\x02x!");
}

#[test]
fn a_thing_that_the_value_does_not_name_is_an_error() {
    let (port, peer) = pair();
    let receiver: TypedPort<(), u8> = peer.into();
    for kind in 0..KINDS {
        port.post_message(&[1], Luggage::pack_kinds(1 << kind).list).unwrap();
        port.post_message(&[2], []).unwrap();
        let error = receiver.recv().unwrap_err();
        let RecvError::MessageError { reason, data } = error else { panic!("{error:?}") };
        assert_eq!((reason, &*data), (BadTransfer::Value(BadValue::Unnamed), &[1][..]), "kind {kind}");
        assert_eq!(receiver.recv().unwrap(), 2);
    }
}

#[test]
fn a_thing_that_a_request_or_an_answer_does_not_name_is_an_error() {
    let unnamed = BadTransfer::Value(BadValue::Unnamed);
    for kind in 0..KINDS {
        let (here, there) = pair();
        let (client, server) = (Client::new(here), TypedServer::<u8, u8>::new(there));
        let call = client.start(&[1], Luggage::pack_kinds(1 << kind).list).unwrap();
        let error = server.recv().err().unwrap();
        assert!(matches!(error, RecvError::MessageError { reason, .. } if reason == unnamed), "kind {kind}: {error:?}");
        assert!(matches!(call.wait(), Err(AnswerError::Dropped)), "kind {kind}");

        let (here, there) = pair();
        let (client, server) = (TypedClient::<u8, u8>::new(here), Server::new(there));
        let call = client.start(1).unwrap();
        server.recv().unwrap().1.answer(&[2], Luggage::pack_kinds(1 << kind).list).unwrap();
        let Err(AnswerError::Failed(error)) = call.wait() else { panic!("kind {kind}") };
        assert!(matches!(error, RecvError::MessageError { reason, .. } if reason == unnamed), "kind {kind}: {error:?}");
    }
}
