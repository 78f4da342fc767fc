//! Values of every shape, with ports and buffers anywhere in them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use messageport::TypedPostErrorKind::Post;
use messageport::{
    BadTransfer, BadValue, CloseReason, FullCause, MessagePort, PostErrorKind, RecvError, RecvTimeoutError,
    TransferBuffer, TryRecvError, TypedPort,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::harness::*;

rules! {
    values_of_every_shape_arrive_as_they_were,
    ports_and_buffers_anywhere_in_a_value_move_with_it,
    a_typed_port_in_a_value_is_its_port,
    many_ports_in_one_value,
    a_reply_port_answers,
    a_message_that_is_no_value_is_an_error_and_later_values_arrive,
    things_on_an_undecodable_message_are_closed,
    posting_waits_for_space,
    halves_of_a_typed_port_post_and_receive_at_the_same_time,
    a_post_after_the_end_of_the_peer_gives_the_value_back,
}

#[derive(Serialize, Deserialize, PartialEq, Clone, Debug, Default)]
struct Unit;

#[derive(Serialize, Deserialize, PartialEq, Eq, Hash, PartialOrd, Ord, Clone, Debug, Default)]
enum Choice {
    #[default]
    Nothing,
    One(u8),
    Two(i16, String),
    Named {
        first: Option<bool>,
        second: Box<Choice>,
    },
}

#[derive(Serialize, Deserialize, PartialEq, Clone, Debug, Default)]
struct Shapes {
    unit: (),
    empty: Unit,
    flags: (bool, bool),
    unsigned: (u8, u16, u32, u64, u128, usize),
    signed: (i8, i16, i32, i64, i128, isize),
    floats: (f32, f64),
    letter: char,
    text: String,
    nothing: Option<u8>,
    something: Option<Option<String>>,
    array: [u32; 5],
    list: Vec<Vec<Choice>>,
    map: BTreeMap<Choice, f64>,
    hashed: HashMap<String, Choice>,
    set: HashSet<char>,
    result: Option<Result<u8, String>>,
    time: Duration,
    #[serde(skip)]
    skipped: u64,
}

fn shapes() -> Vec<Shapes> {
    let nested = Choice::Named { first: Some(true), second: Box::new(Choice::Two(-1, "x".into())) };
    let full = Shapes {
        flags: (true, false),
        unsigned: (u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, usize::MAX),
        signed: (i8::MIN, i16::MIN, i32::MIN, i64::MIN, i128::MIN, isize::MIN),
        floats: (f32::MIN_POSITIVE, f64::NEG_INFINITY),
        letter: '\u{10ffff}',
        text: "Grüße, 世界".repeat(100),
        nothing: None,
        something: Some(Some(String::new())),
        array: [1, 0, u32::MAX, 7, 9],
        list: vec![vec![], vec![Choice::Nothing, Choice::One(255), nested.clone()]],
        map: BTreeMap::from([(Choice::One(1), 1.5), (nested.clone(), -0.0)]),
        hashed: HashMap::from([("key".into(), nested)]),
        set: "abc".chars().collect(),
        result: Some(Err("no".into())),
        time: Duration::MAX,
        ..Shapes::default()
    };
    vec![Shapes::default(), full]
}

/// Posts every value back, until the end.
fn echo<T: Serialize + DeserializeOwned>(there: &mut There) {
    let port: TypedPort<T, T> = there.ports.remove(0).into();
    while let Ok(value) = port.recv_timeout(PATIENCE) {
        port.post_timeout(value, PATIENCE).unwrap();
    }
}

fn values_of_every_shape_arrive_as_they_were(peer: &mut Peer) {
    let port: TypedPort<Shapes, Shapes> = peer.channel().into();
    for value in shapes() {
        port.post(value.clone()).unwrap();
        peer.run(|there| {
            let port = TypedPort::<Shapes, Shapes>::from(there.ports.remove(0));
            let value = port.recv_timeout(PATIENCE).unwrap();
            assert!(shapes().contains(&value));
            port.post(value).unwrap();
            there.ports.push(port.into());
        });
        assert_eq!(port.recv_timeout(PATIENCE).unwrap(), value);
    }
}

#[derive(Serialize, Deserialize)]
enum Cargo {
    Nothing,
    Port(MessagePort),
    Both { buffer: TransferBuffer, port: MessagePort },
}

#[derive(Serialize, Deserialize)]
struct Load {
    name: String,
    reply: MessagePort,
    frame: TransferBuffer,
    optional: Option<MessagePort>,
    missing: Option<TransferBuffer>,
    list: Vec<TransferBuffer>,
    cargo: Vec<Cargo>,
    by_name: BTreeMap<String, (u8, MessagePort)>,
    boxed: Box<[TransferBuffer; 2]>,
}

impl Load {
    /// A load, and the other ends of its ports in the order of the encoding.
    fn new() -> (Self, Vec<MessagePort>) {
        let mut others = Vec::new();
        let mut port = || {
            let (here, there) = pair();
            others.push(here);
            there
        };
        let buffer = |text: &str| buffer_of(text.as_bytes());
        let load = Self {
            name: "everything".into(),
            reply: port(),
            frame: buffer("frame"),
            optional: Some(port()),
            missing: None,
            list: vec![buffer("one"), buffer(""), buffer("three")],
            cargo: vec![Cargo::Nothing, Cargo::Port(port()), Cargo::Both { buffer: buffer("both"), port: port() }],
            by_name: BTreeMap::from([("a".into(), (1, port())), ("b".into(), (2, port()))]),
            boxed: Box::new([buffer("left"), buffer("right")]),
        };
        (load, others)
    }

    /// The ports, in the order of the encoding.
    fn ports(&self) -> Vec<&MessagePort> {
        let cargo = self.cargo.iter().filter_map(|cargo| match cargo {
            Cargo::Nothing => None,
            Cargo::Port(port) | Cargo::Both { port, .. } => Some(port),
        });
        let by_name = self.by_name.values().map(|(_, port)| port);
        [&self.reply].into_iter().chain(&self.optional).chain(cargo).chain(by_name).collect()
    }

    #[track_caller]
    fn assert_whole(&self) {
        assert_eq!(self.name, "everything");
        assert_eq!(bytes_of(&self.frame), b"frame");
        assert!(self.missing.is_none());
        let list: Vec<_> = self.list.iter().map(bytes_of).collect();
        assert_eq!(list, [&b"one"[..], b"", b"three"]);
        assert!(matches!(&self.cargo[2], Cargo::Both { buffer, .. } if bytes_of(buffer) == b"both"));
        assert_eq!(self.boxed.each_ref().map(bytes_of), [&b"left"[..], b"right"]);
        assert_eq!(self.ports().len(), 6);
    }
}

fn ports_and_buffers_anywhere_in_a_value_move_with_it(peer: &mut Peer) {
    let port: TypedPort<Load, Load> = peer.channel().into();
    let (load, others) = Load::new();
    for (number, other) in others.iter().enumerate() {
        other.post_message(&number.to_ne_bytes(), []).unwrap();
    }
    port.post(load).unwrap();
    peer.run(|there| {
        let port = TypedPort::<Load, Load>::from(there.ports.remove(0));
        let load = port.recv_timeout(PATIENCE).unwrap();
        load.assert_whole();
        for (number, port) in load.ports().into_iter().enumerate() {
            assert_eq!(recv(port).data, number.to_ne_bytes());
            port.post_message(&number.to_ne_bytes(), []).unwrap();
        }
        // Back again: each thing can travel on.
        port.post(load).unwrap();
        there.ports.push(port.into());
    });
    for (number, other) in others.iter().enumerate() {
        assert_eq!(recv(other).data, number.to_ne_bytes());
    }
    let load = port.recv_timeout(PATIENCE).unwrap();
    load.assert_whole();
    for (port, other) in load.ports().into_iter().zip(&others) {
        assert_entangled(port, other);
    }
}

fn a_typed_port_in_a_value_is_its_port(peer: &mut Peer) {
    #[derive(Serialize, Deserialize)]
    struct Subscribe {
        events: TypedPort<String, ()>,
    }
    let port: TypedPort<Subscribe, ()> = peer.channel().into();
    let (here, there) = pair();
    port.post(Subscribe { events: there.into() }).unwrap();
    peer.run(|there| {
        let port = TypedPort::<(), Subscribe>::from(there.ports.remove(0));
        let Subscribe { events } = port.recv_timeout(PATIENCE).unwrap();
        events.post("something happened".into()).unwrap();
        there.ports.push(events.into());
    });
    let events: TypedPort<(), String> = here.into();
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), "something happened");
}

fn many_ports_in_one_value(peer: &mut Peer) {
    let port: TypedPort<Vec<MessagePort>, ()> = peer.channel().into();
    let (here, there): (Vec<_>, Vec<_>) = (0..64).map(|_| pair()).unzip();
    port.post(there).unwrap();
    peer.run(|there| {
        let port = TypedPort::<(), Vec<MessagePort>>::from(there.ports.remove(0));
        for (number, port) in port.recv_timeout(PATIENCE).unwrap().into_iter().enumerate() {
            port.post_message(&number.to_ne_bytes(), []).unwrap();
        }
    });
    for (number, port) in here.iter().enumerate() {
        assert_eq!(recv(port).data, number.to_ne_bytes());
    }
}

fn a_reply_port_answers(peer: &mut Peer) {
    #[derive(Serialize, Deserialize)]
    struct Job {
        numbers: Vec<u64>,
        reply: TypedPort<u64, ()>,
    }
    let port: TypedPort<Job, ()> = peer.channel().into();
    let replies: Vec<TypedPort<(), u64>> = (1..=10)
        .map(|count| {
            let (here, there) = pair();
            port.post(Job { numbers: (1..=count).collect(), reply: there.into() }).unwrap();
            here.into()
        })
        .collect();
    peer.run(|there| {
        let port = TypedPort::<(), Job>::from(there.ports.remove(0));
        for _ in 0..10 {
            let Job { numbers, reply } = port.recv_timeout(PATIENCE).unwrap();
            reply.post(numbers.iter().sum()).unwrap();
        }
    });
    for (count, reply) in (1..=10).zip(replies) {
        assert_eq!(reply.recv_timeout(PATIENCE).unwrap(), count * (count + 1) / 2);
        assert_ended(reply.as_port(), CloseReason::Closed);
    }
}

/// The reason of a `MessageError`, and the data in it.
#[track_caller]
fn bad_value<T>(result: Result<T, RecvTimeoutError>) -> (BadValue, Vec<u8>) {
    match result {
        Err(RecvTimeoutError::Failed(RecvError::MessageError { reason: BadTransfer::Value(bad), data })) => (bad, data),
        Err(error) => panic!("expected a bad value: {error:?}"),
        Ok(_) => panic!("expected an error, not a value"),
    }
}

fn a_message_that_is_no_value_is_an_error_and_later_values_arrive(peer: &mut Peer) {
    let port: TypedPort<(), (bool, String)> = peer.channel().into();
    peer.run(|there| {
        let port = there.ports.remove(0);
        for data in [&b""[..], &[2, 0], &[1, 5, b'x'], &[1, 1, 0xff], &[1, 1, b'x', 0]] {
            port.post_message(data, []).unwrap();
        }
        let port: TypedPort<(bool, String), ()> = port.into();
        port.post((true, "fine".into())).unwrap();
        there.ports.push(port.into());
    });
    assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (BadValue::Encoding, vec![]));
    assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (BadValue::Encoding, vec![2, 0]));
    assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (BadValue::Encoding, vec![1, 5, b'x']));
    assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (BadValue::Encoding, vec![1, 1, 0xff]));
    assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (BadValue::TooLong, vec![1, 1, b'x', 0]));
    assert_eq!(port.recv_timeout(PATIENCE).unwrap(), (true, "fine".into()));
    assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
}

fn things_on_an_undecodable_message_are_closed(peer: &mut Peer) {
    let port: TypedPort<(), Vec<MessagePort>> = peer.channel().into();
    let mut others = Vec::new();
    // A list of n ports is encoded as n and their indices.
    let cases: [(&[u8], usize, BadValue); 6] = [
        (&[1, 7], 1, BadValue::NoSuchThing),
        (&[2, 0, 0], 2, BadValue::NoSuchThing),
        (&[1, 0], 0, BadValue::NoSuchThing),
        (&[0], 2, BadValue::Unnamed),
        (&[1, 1], 2, BadValue::Unnamed),
        (&[3, 0, 1], 2, BadValue::Encoding),
    ];
    for (data, count, _) in cases {
        let (here, there): (Vec<_>, Vec<_>) = (0..count).map(|_| pair()).unzip();
        others.extend(here);
        peer.give_all(there.into_iter().map(Into::into));
        peer.give(buffer_of(data));
        peer.run(|there| {
            let ports = there.ports.split_off(1);
            let data = bytes_of(&there.buffers.pop().unwrap());
            there.port().post_message(&data, ports.into_iter().map(Into::into)).unwrap();
        });
    }
    for (data, _, reason) in cases {
        assert_eq!(bad_value(port.recv_timeout(PATIENCE)), (reason, data.to_vec()));
    }
    for other in others {
        assert_ended(&other, CloseReason::Closed);
    }
}

fn posting_waits_for_space(peer: &mut Peer) {
    let (here, there) = pair_of(4096);
    peer.give(there);
    let port: TypedPort<(u32, String), ()> = here.into();
    let value = |number| (number, "x".repeat(100));
    let mut posted = 0;
    let error = loop {
        match port.post(value(posted)) {
            Ok(()) => posted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind, Post(PostErrorKind::Full(FullCause::Ring))));
    let refused = error.into_inner();
    assert_eq!(refused, value(posted));
    let error = port.post_timeout(refused, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::TimedOut)));
    assert_eq!(error.into_inner(), value(posted));
    if peer.is_concurrent() {
        peer.begin(|there| {
            let port = TypedPort::<(), (u32, String)>::from(there.ports.remove(0));
            for number in 0..2000 {
                assert_eq!(port.recv_timeout(PATIENCE).unwrap().0, number);
            }
            there.ports.push(port.into());
        });
        for number in posted..2000 {
            port.post_timeout(value(number), PATIENCE).unwrap();
        }
        peer.finish();
    }
}

fn halves_of_a_typed_port_post_and_receive_at_the_same_time(peer: &mut Peer) {
    let (here, there) = pair();
    peer.give(there);
    let (sender, receiver) = TypedPort::<u64, u64>::from(here).split();
    if !peer.is_concurrent() {
        return sender.post(1).unwrap();
    }
    peer.begin(echo::<u64>);
    let sender = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            (0..10_000).for_each(|number| sender.post_timeout(number, PATIENCE).unwrap());
            sender
        });
        (0..10_000).for_each(|number| assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), number));
        sender.join().unwrap()
    });
    drop((sender, receiver));
    peer.finish();
}

fn a_post_after_the_end_of_the_peer_gives_the_value_back(peer: &mut Peer) {
    let (load, others) = Load::new();
    let port: TypedPort<Load, Load> = peer.channel().into();
    peer.kill();
    let reason = peer.death();
    assert!(matches!(port.recv(), Err(RecvError::Ended(seen)) if seen == reason));
    let error = port.post(load).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::PeerGone(seen)) if seen == reason));
    let load = error.into_inner();
    load.assert_whole();
    for (port, other) in load.ports().into_iter().zip(&others) {
        assert_entangled(port, other);
    }
}
