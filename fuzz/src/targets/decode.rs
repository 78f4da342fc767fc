//! Decoders of private copies: tables and capsules, greetings, typed values, requests and answers.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::AsFd;

use serde::{Deserialize, Serialize};

use super::descriptors::{OpenDescriptors, odd, valid};
use crate::buffer::TransferBuffer;
use crate::call::{Client, Server};
use crate::capsule::{Arrival, Table};
use crate::connect::greeting;
use crate::input::Input;
use crate::layout::VERSION;
use crate::port::MessagePort;
use crate::port::channel::MessageChannel;
use crate::port::message::Message;
use crate::port::transfer::Transferable;
use crate::queue::record::RecordHeader;
use crate::sys::passed::Passed;
use crate::sys::socket;
use crate::typed::TypedPort;

/// A value that is hard to decode: it nests, has lengths that the peer chooses, ports and buffers.
#[derive(Serialize, Deserialize, Debug)]
enum Value {
    Nothing,
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Many(Vec<Value>),
    Deep(Box<Value>),
    Maybe(Option<Box<Value>>),
    Map(BTreeMap<u16, Value>),
    Pair((i8, char), [u32; 2]),
    Port(MessagePort),
    Buffer(TransferBuffer),
}

pub(crate) fn run(bytes: &[u8]) {
    valid();
    let open = OpenDescriptors::now();
    let mut input = Input::new(bytes);
    match input.byte() % 6 {
        0 => table(&mut input),
        1 => packet(&mut input),
        2 | 3 => value(&mut input),
        4 => call(&mut input),
        _ => header(&mut input),
    }
    open.assert_restored();
}

fn table(input: &mut Input<'_>) {
    let picks: Vec<u8> = input.bytes(8).to_vec();
    let payload = input.bytes(4096).to_vec();
    let Ok(table) = Table::parse(&payload) else { return };
    assert!(table.data_len < payload.len());
    assert!(table.body_len().is_none() || table.data_len == 0);
    let count = table.handles();
    if count + table.copies() > 100 {
        return; // a packet carries at most 253, and 100 reach every path
    }
    let files: Vec<_> = valid().iter().chain(odd()).collect();
    let pick = |index: usize| picks.get(index % 8).map_or(0, |pick| usize::from(*pick)) % files.len();
    let copy = |index| Passed::from(files[pick(index)].try_clone().expect("a descriptor"));
    let mut handles: Vec<Passed> = (0..count).map(copy).collect();
    let mut arrival = Arrival::default();
    if table.adopt(&mut handles, None, &mut arrival, true).is_ok() {
        let mut message = Message::from(payload[..table.data_len].to_vec());
        message.extend(arrival.items.into_iter().map(Transferable::from));
    } else {
        arrival.close();
    }
}

fn packet(input: &mut Input<'_>) {
    let (ours, theirs) = socket::pair().expect("sockets");
    let mut packet = Vec::new();
    let brings_port = input.flag();
    if input.byte() & 3 != 0 {
        // A greeting has the length of a header where a packet with a port has a one.
        let word = if brings_port { 1 } else { 4096_u32 };
        packet.extend_from_slice(b"msgphi!\0");
        packet.extend_from_slice(&VERSION.to_ne_bytes());
        packet.extend_from_slice(&word.to_ne_bytes());
    }
    let count = input.below(5);
    let files: Vec<_> =
        (0..count).map(|_| valid().iter().chain(odd()).nth(input.below(13)).expect("13 descriptors").as_fd()).collect();
    packet.extend_from_slice(input.bytes(2000));
    let _ = socket::send(ours.as_fd(), &[IoSlice::new(&packet)], &files);
    if brings_port {
        drop(greeting::receive_port(theirs.as_fd()));
    } else {
        drop(greeting::receive(theirs.as_fd()));
    }
}

fn value(input: &mut Input<'_>) {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    let mut list: Vec<Transferable> = Vec::new();
    for _ in 0..input.below(3) {
        match input.flag() {
            true => list.push(MessageChannel::new().expect("a channel").port1.into()),
            false => list.push(TransferBuffer::new(10).expect("memory").into()),
        }
    }
    port1.post_message(input.bytes(2000), list).expect("there is room");
    let receiver = TypedPort::<Value, Value>::from(port2);
    if let Ok(value) = receiver.recv() {
        // A value that was decoded can be encoded and decoded again, without a change.
        let text = format!("{value:?}");
        receiver.post(value).expect("there is room");
        let again = TypedPort::<Value, Value>::from(port1).recv().expect("the value that was posted");
        let strip = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
        assert_eq!(strip(&format!("{again:?}")).len(), strip(&text).len(), "the value changed on its way");
    }
}

fn call(input: &mut Input<'_>) {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    if input.flag() {
        let server = Server::new(port2);
        for _ in 0..8 {
            let len = input.below(40);
            port1.post_message(input.bytes(len), []).expect("there is room");
            if let Ok((message, responder)) = server.try_recv() {
                let _ = responder.answer(&message.data, []);
            }
            let _ = port1.try_recv();
        }
    } else {
        let client = Client::new(port2);
        let mut open: Vec<_> = (0..input.below(5)).filter_map(|_| client.start(b"request", []).ok()).collect();
        for _ in 0..8 {
            let len = input.below(24);
            port1.post_message(input.bytes(len), []).expect("there is room");
            if let Some(call) = open.last_mut()
                && !matches!(call.try_wait(), Ok(None))
            {
                open.pop();
            }
        }
    }
}

fn header(input: &mut Input<'_>) {
    let word = input.word();
    if let Ok(header) = RecordHeader::decode(word) {
        assert_eq!(header.encode(), word, "a header changes when it is encoded again");
    }
}
