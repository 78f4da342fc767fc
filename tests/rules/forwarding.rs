//! S50: a message forwarded with everything on it arrives with everything on it, by every way to receive and to post.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::rc::Rc;

use messageport::{
    BufferError, Client, CloseReason, Message, MessagePort, PortSet, RecvError, Server, SetEvent, TransferRef,
    Transferable, TryRecvError,
};

use crate::harness::events::{event_loop, run_until};
use crate::harness::luggage::{KINDS, Luggage};
use crate::harness::*;

rules! {
    s50_every_receiving_call_takes_everything,
    s50_every_posting_call_carries_everything,
    s50_requests_and_answers_carry_everything,
    s50_the_order_of_each_kind_is_kept,
}

/// Posts luggage to the peer, which runs `step` to forward it from its first port to its second. Asserts that it
/// arrives.
#[track_caller]
fn assert_forwards(peer: &mut Peer, step: Step) {
    let (way_there, way_back) = (peer.channel(), peer.channel());
    let mut luggage = Luggage::pack();
    way_there.post_message(b"all of it", luggage.take()).unwrap();
    peer.run(step);
    let message = recv(&way_back);
    assert_eq!(message.data, b"all of it");
    luggage.assert_whole(message.transfer_list());
    peer.run(|there| there.ports.clear());
}

fn s50_every_receiving_call_takes_everything(peer: &mut Peer) {
    let ways: [Step; 8] = [
        |there| forward(there, |port| port.recv().unwrap()),
        |there| forward(there, |port| port.try_recv().unwrap()),
        |there| {
            forward(there, |port| {
                let mut message = Message::from(b"of an earlier message".to_vec());
                message.extend(Luggage::pack().list);
                port.recv_into_timeout(&mut message, PATIENCE).unwrap();
                message
            });
        },
        |there| {
            forward(there, |port| {
                let mut in_place = port.recv_ref_timeout(PATIENCE).unwrap();
                let mut message = in_place.take_transferred();
                assert!(!in_place.take_transferred().has_transferred());
                message.data = in_place.to_vec().unwrap();
                message
            });
        },
        |there| {
            forward(there, |port| {
                let mut messages = [Message::new(), Message::new()];
                assert_eq!(port.recv_messages_timeout(&mut messages, PATIENCE).unwrap(), 1);
                let [message, none] = messages;
                assert!(none.data.is_empty() && !none.has_transferred());
                message
            });
        },
        |there| forward(there, |port| port.into_iter().next().unwrap().unwrap()),
        |there| {
            let from = there.ports.remove(0);
            let mut set = PortSet::new().unwrap();
            set.add(from).unwrap();
            let Some((_, SetEvent::Message(mut message))) = set.wait_timeout(PATIENCE).unwrap() else {
                panic!("a message")
            };
            let list = message.take_transfer_list();
            there.ports[0].post_message(&message.data, list).unwrap();
        },
        |there| {
            let (from, to) = (there.ports.remove(0), there.ports.remove(0));
            let events = event_loop();
            let from = events.add(from).unwrap();
            let done = Rc::new(Cell::new(false));
            let is_done = Rc::clone(&done);
            from.set_onmessage(move |_, event| {
                let list = event.take_transfer_list();
                to.post_message(&event.data, list).unwrap();
                is_done.set(true);
            });
            run_until(&events, || done.get());
        },
    ];
    ways.into_iter().for_each(|way| assert_forwards(peer, way));
}

fn forward(there: &There, receive: fn(&MessagePort) -> Message) {
    let mut message = receive(&there.ports[0]);
    let list = message.take_transfer_list();
    assert!(!message.has_transferred());
    there.ports[1].post_message(&message.data, list).unwrap();
}

fn s50_every_posting_call_carries_everything(peer: &mut Peer) {
    let ways: [Step; 7] = [
        |there| {
            let mut message = recv(&there.ports[0]);
            let list = message.take_transfer_list();
            there.ports[1].post_message_wait(&message.data, list).unwrap();
        },
        |there| {
            let mut message = recv(&there.ports[0]);
            let list = message.take_transfer_list();
            there.ports[1].post_message_timeout(&message.data, list, PATIENCE).unwrap();
        },
        |there| {
            let message = recv(&there.ports[0]);
            there.ports[1].post_message_detaching(&message.data, &message.transfer_list()).unwrap();
            assert_left(&message);
        },
        |there| {
            let message = recv(&there.ports[0]);
            there.ports[1].post_message_detaching_wait(&message.data, &message.transfer_list()).unwrap();
            assert_left(&message);
        },
        |there| {
            let message = recv(&there.ports[0]);
            let list = message.transfer_list();
            there.ports[1].post_message_detaching_timeout(&message.data, &list, PATIENCE).unwrap();
            assert_left(&message);
        },
        // Each thing by the conversion of its type, and owned things by reference.
        |there| {
            let message = recv(&there.ports[0]);
            let list: [TransferRef<'_>; KINDS] = [
                (&message.ports[0]).into(),
                (&message.buffers[0]).into(),
                (&message.frozen[0]).into(),
                (&message.shared[0]).into(),
                message.descriptors[0].as_fd().into(),
            ];
            there.ports[1].post_message_detaching(&message.data, &list).unwrap();
            assert_left(&message);
        },
        |there| {
            let mut message = recv(&there.ports[0]);
            let list = message.take_transfer_list();
            let borrowed: Vec<_> = list.iter().map(TransferRef::from).collect();
            there.ports[1].post_message_detaching(&message.data, &borrowed).unwrap();
            message.extend(list);
            assert_left(&message);
        },
    ];
    ways.into_iter().for_each(|way| assert_forwards(peer, way));
}

/// Asserts that a post by reference detached the port and the buffer, and left the rest of the list usable.
#[track_caller]
fn assert_left(Message { ports, buffers, frozen, shared, descriptors, .. }: &Message) {
    assert!(matches!(ports[0].try_recv(), Err(TryRecvError::Failed(RecvError::Detached))));
    assert!(matches!(buffers[0].to_vec(), Err(BufferError::Detached)));
    assert_eq!((&frozen[0][..], shared[0].to_vec().unwrap()), (&b"weights"[..], b"counters".to_vec()));
    assert_eq!(contents(&descriptors[0]), b"a file");
}

fn s50_requests_and_answers_carry_everything(peer: &mut Peer) {
    let client = Client::new(peer.channel());
    let mut luggage = Luggage::pack();
    let mut call = client.start(b"all of it", luggage.take()).unwrap();
    peer.run(|there| {
        let server = Server::new(there.ports.remove(0));
        let (mut request, responder) = server.recv_timeout(PATIENCE).unwrap();
        let list = request.take_transfer_list();
        responder.answer(&request.data, list).unwrap();
    });
    let answer = call.wait_timeout(PATIENCE).unwrap();
    assert_eq!(answer.data, b"all of it");
    luggage.assert_whole(answer.transfer_list());
}

fn s50_the_order_of_each_kind_is_kept(peer: &mut Peer) {
    let (way_there, way_back) = (peer.channel(), peer.channel());
    let mut all = [Luggage::pack(), Luggage::pack(), Luggage::pack()];
    let mut list: Vec<Transferable> = Vec::new();
    all.iter_mut().for_each(|luggage| list.extend(luggage.take()));
    way_there.post_message(b"", list).unwrap();
    peer.run(|there| forward(there, recv));
    let mut message = recv(&way_back);
    // One of each kind at a time: the order within each kind is that of the first list.
    for luggage in &all {
        let mut part = Message::new();
        part.ports.push(message.ports.remove(0));
        part.buffers.push(message.buffers.remove(0));
        part.frozen.push(message.frozen.remove(0));
        part.shared.push(message.shared.remove(0));
        part.descriptors.push(message.descriptors.remove(0));
        luggage.assert_whole(part.transfer_list());
    }
    assert!(!message.has_transferred());
}

#[test]
fn a_message_gives_up_the_list_that_it_was_extended_with() {
    let mut luggage = Luggage::pack();
    let mut message = Message::new();
    assert!(!message.has_transferred() && message.transfer_list().is_empty());
    // In any order.
    let mut list = luggage.take();
    let first = list.pop().unwrap();
    message.push(first);
    message.extend(list.into_iter().rev());
    assert!(message.has_transferred());
    luggage.assert_whole(message.transfer_list());
    let list = message.take_transfer_list();
    luggage.assert_whole(&list);
    assert!(!message.has_transferred() && message.take_transfer_list().is_empty());
    // Clearing closes what a message carries.
    message.extend(list);
    message.clear();
    assert!(!message.has_transferred());
    assert_ended(&luggage.witness, CloseReason::Closed);
}
