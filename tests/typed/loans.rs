//! Ports and buffers in a value: while the value is being posted, and after a post that failed.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Mutex;
use std::time::Duration;

use messageport::TypedPostErrorKind::Post;
use messageport::{
    BufferError, ChannelOptions, CloseReason, FullCause, MessageChannel, MessagePort, PostDataError, PostErrorKind,
    RecvError, SharedBuffer, TransferBuffer, TransferRef, TryRecvError, TypedPort, TypedPostErrorKind,
};
use serde::ser::{Error as _, SerializeSeq, SerializeTuple};
use serde::{Deserialize, Serialize, Serializer};

use crate::harness::*;

rules! {
    a_handle_that_stays_behind_hides_no_death,
}

fn a_handle_that_stays_behind_hides_no_death(peer: &mut Peer) {
    let port: TypedPort<Shared<MessagePort>, ()> = peer.channel().into();
    let (here, there) = pair();
    let (passenger, lent) = shared(here);
    port.post(lent).unwrap();
    peer.run(|there| {
        let port = recv_port(there.port());
        port.post_message(b"arrived", []).unwrap();
        there.ports.push(port);
    });
    assert_eq!(text(&there), "arrived");
    peer.kill();
    assert_ended(&there, peer.death());
    assert!(matches!(passenger.recv(), Err(RecvError::Detached)));
}

/// A thing in a value that has other owners as well.
struct Shared<T>(Rc<T>);

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

fn shared<T>(thing: T) -> (Rc<T>, Shared<T>) {
    let thing = Rc::new(thing);
    (Rc::clone(&thing), Shared(thing))
}

/// A value that calls a function while it is encoded.
struct Doing<F>(F);

impl<F: Fn()> Serialize for Doing<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)();
        serializer.serialize_unit()
    }
}

fn typed_pair<T>() -> (TypedPort<T, ()>, MessagePort) {
    let (port, peer) = pair();
    (port.into(), peer)
}

/// Asserts that posting `things` fails together with a port and a buffer, and that these two still work. Returns the
/// error and the things.
#[track_caller]
fn assert_fails<T: Serialize>(
    port: TypedPort<(Shared<MessagePort>, Shared<TransferBuffer>, T), ()>,
    things: T,
) -> (TypedPostErrorKind, T) {
    let (here, there) = pair();
    there.post_message(b"was queued before", []).unwrap();
    let ((passenger, lent_port), (buffer, lent_buffer)) = (shared(here), shared(buffer_of(b"pixels")));
    let (kind, value) = port.post((lent_port, lent_buffer, things)).expect_err("a post that fails").into_parts();
    assert_eq!(text(&passenger), "was queued before");
    assert_entangled(&passenger, &there);
    assert_eq!(bytes_of(&buffer), b"pixels");
    buffer.write_at(0, b"P").unwrap();
    drop((passenger, buffer));
    // Both can still be posted.
    let (port, peer) = typed_pair();
    let (lent_port, lent_buffer, things) = value;
    port.post((lent_port, lent_buffer)).unwrap();
    let mut message = recv(&peer);
    assert_eq!(bytes_of(&message.buffers[0]), b"Pixels");
    assert_entangled(&message.ports.remove(0), &there);
    (kind, things)
}

#[test]
fn a_port_that_cannot_post_gives_everything_back() {
    let (port, _peer) = typed_pair();
    port.as_port().close();
    assert!(matches!(assert_fails(port, ()).0, Post(PostErrorKind::PortClosed)));

    let (port, _peer) = typed_pair();
    let (carrier, _carrier_peer) = pair();
    carrier.post_message_detaching(b"", &[TransferRef::Port(port.as_port())]).unwrap();
    assert!(matches!(assert_fails(port, ()).0, Post(PostErrorKind::Detached)));

    let (port, peer) = typed_pair();
    drop(peer);
    assert!(matches!(assert_fails(port, ()).0, Post(PostErrorKind::PeerGone(CloseReason::Closed))));
}

#[test]
fn an_open_reservation_gives_everything_back() {
    let (port, peer) = typed_pair::<MessagePort>();
    let (here, there) = pair();
    let reservation = port.as_port().reserve(8).unwrap();
    let error = port.post(here).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::Borrowed)));
    drop(reservation);
    let here = error.into_inner();
    assert_entangled(&here, &there);
    port.post(here).unwrap();
    assert_entangled(&recv_port(&peer), &there);
}

#[test]
fn a_list_that_is_refused_gives_everything_back() {
    // The port itself.
    let (here, there) = pair();
    let (other, lent_other) = shared(here);
    let (port, peer) = typed_pair::<Vec<Lazy>>();
    let port = Rc::new(port);
    let error = port.post(vec![Lazy::Other(lent_other), Lazy::Carrier(Rc::downgrade(&port))]).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::ContainsSelf { .. })), "{:?}", error.kind);
    assert_entangled(&other, &there);
    assert_entangled(port.as_port(), &peer);

    // Its peer.
    let (port, peer) = pair();
    assert!(matches!(assert_fails(port.into(), peer).0, Post(PostErrorKind::ContainsPeer { .. })));

    // The same port twice, and the same buffer twice.
    let (port, _peer) = typed_pair();
    let (here, there) = pair();
    let (twice, lent) = shared(here);
    assert!(matches!(assert_fails(port, [lent.clone(), lent]).0, Post(PostErrorKind::Duplicate { .. })));
    assert_entangled(&twice, &there);
    let (port, _peer) = typed_pair();
    let (twice, lent) = shared(buffer_of(b"twice"));
    assert!(matches!(assert_fails(port, [lent.clone(), lent]).0, Post(PostErrorKind::Duplicate { .. })));
    assert_eq!(bytes_of(&twice), b"twice");

    // A closed, detached or busy thing: the error has its index, behind the two that work.
    let (port, _peer) = typed_pair();
    let (closed, _its_peer) = pair();
    closed.close();
    assert!(matches!(assert_fails(port, closed).0, Post(PostErrorKind::Unusable { index: 2 })));
    let (port, _peer) = typed_pair();
    let buffer = buffer_of(b"gone");
    let (carrier, _carrier_peer) = pair();
    carrier.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).unwrap();
    assert!(matches!(assert_fails(port, buffer).0, Post(PostErrorKind::Unusable { index: 2 })));
    let (port, _peer) = typed_pair();
    let (here, there) = pair();
    let (busy, lent) = shared(here);
    let reservation = busy.reserve(8).unwrap();
    assert!(matches!(assert_fails(port, lent).0, Post(PostErrorKind::Unusable { index: 2 })));
    drop(reservation);
    assert_entangled(&busy, &there);
}

/// A port in a value, or the port that the value is posted on.
enum Lazy {
    Other(Shared<MessagePort>),
    Carrier(Weak<TypedPort<Vec<Lazy>, ()>>),
}

impl Serialize for Lazy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Other(port) => port.serialize(serializer),
            Self::Carrier(port) => port.upgrade().unwrap().serialize(serializer),
        }
    }
}

#[test]
fn the_error_does_not_depend_on_the_order_of_the_things() {
    let (port, peer) = typed_pair::<Vec<Shared<MessagePort>>>();
    let (closed, _its_peer) = pair();
    closed.close();
    let (_, closed) = shared(closed);
    let (_, twice) = shared(pair().0);
    let (_, peer) = shared(peer);
    let post = |list: Vec<&Shared<MessagePort>>| port.post(list.into_iter().cloned().collect()).unwrap_err().kind;
    assert!(matches!(post(vec![&closed, &twice, &twice, &peer]), Post(PostErrorKind::ContainsPeer { .. })));
    assert!(matches!(post(vec![&closed, &twice, &twice]), Post(PostErrorKind::Duplicate { .. })));
    assert!(matches!(post(vec![&twice, &closed]), Post(PostErrorKind::Unusable { index: 1 })));
}

#[test]
fn limits_give_everything_back() {
    let (port, _peer) = pair_of(4096);
    assert!(matches!(assert_fails(port.into(), vec![0_u8; 4096]).0, Post(PostErrorKind::TooLarge { max: 1784, .. })));

    let options = ChannelOptions::new().max_handles(3);
    let MessageChannel { port1, port2: _peer } = options.create().unwrap();
    let (kind, _) = assert_fails(port1.into(), buffer_of(b"one too many"));
    assert!(matches!(kind, Post(PostErrorKind::TooManyHandles { handles: 4, max: 3 })));

    let (port, _peer) = pair_of(4096);
    while port.post_message(&[0; 500], []).is_ok() {}
    assert!(matches!(assert_fails(port.into(), [[0_u8; 32]; 15]).0, Post(PostErrorKind::Full(FullCause::Ring))));

    let (port, _peer) = pair_of(1 << 20);
    while port.post_message(b"", [SharedBuffer::new(1).unwrap().into()]).is_ok() {}
    assert!(matches!(assert_fails(port.into(), ()).0, Post(PostErrorKind::Full(FullCause::Lane))));

    let (port, _peer) = pair_of(4096);
    while port.post_message(&[0; 500], []).is_ok() {}
    let port: TypedPort<(MessagePort, [[u8; 32]; 15]), ()> = port.into();
    let (here, there) = pair();
    let error = port.post_timeout((here, [[0; 32]; 15]), Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::TimedOut)));
    assert_entangled(&error.into_inner().0, &there);
}

#[test]
fn a_value_that_cannot_be_encoded_gives_everything_back() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("no"))
        }
    }
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_seq(None)?.end()
        }
    }
    assert!(matches!(assert_fails(typed_pair().0, Refuses).0, TypedPostErrorKind::Unencodable));
    assert!(matches!(assert_fails(typed_pair().0, Endless).0, TypedPostErrorKind::Unencodable));
}

#[test]
fn a_lent_port_can_do_nothing() {
    let (port, peer) = typed_pair();
    let (here, there) = pair();
    there.post_message(b"in the queue", []).unwrap();
    let (passenger, lent) = shared(here);
    let used = Cell::new(false);
    let user = Rc::clone(&passenger);
    let use_it = Doing(|| {
        assert!(matches!(user.post_message(b"", []).unwrap_err().kind, PostErrorKind::Borrowed));
        assert!(matches!(user.reserve(1), Err(PostDataError::Borrowed)));
        assert!(matches!(user.recv(), Err(RecvError::Borrowed)));
        assert!(matches!(user.try_recv(), Err(TryRecvError::Failed(RecvError::Borrowed))));
        let (carrier, _carrier_peer) = pair();
        let error = carrier.post_message_detaching(b"", &[TransferRef::Port(&user)]).unwrap_err();
        assert!(matches!(error, PostErrorKind::Unusable { index: 0 }));
        used.set(true);
    });
    port.post((lent, use_it)).unwrap();
    assert!(used.get());
    // Now the port has moved, and the handle that stays behind has no effect.
    assert!(matches!(passenger.post_message(b"", []).unwrap_err().kind, PostErrorKind::Detached));
    assert!(matches!(passenger.recv(), Err(RecvError::Detached)));
    passenger.close();
    let passenger_there = recv_port(&peer);
    assert_eq!(text(&passenger_there), "in the queue");
    assert_entangled(&passenger_there, &there);
    drop(passenger_there);
    assert_ended(&there, CloseReason::Closed);
    drop(passenger);
}

#[test]
fn a_lent_buffer_is_detached_with_its_memory_released() {
    let (port, peer) = typed_pair();
    let (buffer, lent) = shared(buffer_of(b"pixels"));
    let seen = Rc::clone(&buffer);
    port.post((lent, Doing(|| assert_eq!(seen.len(), 6)))).unwrap();
    assert_eq!(buffer.len(), 0);
    assert!(matches!(buffer.read_at(0, &mut [0]), Err(BufferError::Detached)));
    assert!(matches!(buffer.write_at(0, &[0]), Err(BufferError::Detached)));
    let (carrier, _carrier_peer) = pair();
    let error = carrier.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).unwrap_err();
    assert!(matches!(error, PostErrorKind::Unusable { index: 0 }));
    assert_eq!(bytes_of(&recv_buffer(&peer)), b"pixels");
}

/// Several holds share a recycled buffer while it is lent, and only the last of them gives it up.
#[test]
fn a_lent_recycled_buffer_has_one_holder_after_any_post() {
    let (port, peer) = pair_of(4096);
    port.post_message(b"", [port.buffer(4).unwrap().into()]).unwrap();
    drop(recv(&peer));
    let port: TypedPort<(Shared<TransferBuffer>, Vec<u8>), ()> = port.into();
    let overwrite_another = || port.as_port().buffer(4).unwrap().write_at(0, b"else").unwrap();

    let buffer = port.as_port().buffer(4).unwrap();
    buffer.write_at(0, b"mine").unwrap();
    let (mine, lent) = shared(buffer);
    let (kind, value) = port.post((lent, vec![0; 4096])).unwrap_err().into_parts();
    assert!(matches!(kind, Post(PostErrorKind::TooLarge { .. })));
    overwrite_another();
    assert_eq!(bytes_of(&mine), b"mine");

    port.post((value.0, vec![])).unwrap();
    drop(mine);
    overwrite_another();
    let received = recv(&peer).buffers.remove(0);
    assert_eq!(bytes_of(&received), b"mine");
    drop(received);
    // The buffer came back.
    let known: Vec<_> = (0..3).map(|_| bytes_of(&port.as_port().buffer(4).unwrap())).collect();
    assert!(known.contains(&b"mine".to_vec()), "{known:?}");
}

/// A value that is made while it is encoded.
struct Made<T>(fn() -> T);

impl<T: Serialize> Serialize for Made<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0)().serialize(serializer)
    }
}

thread_local! {
    static OTHER: RefCell<Option<MessagePort>> = const { RefCell::new(None) };
}

#[test]
fn things_that_serialize_makes_and_drops_are_not_posted() {
    let (port, peer) = typed_pair();
    let temporary = || {
        let (here, there) = pair();
        OTHER.set(Some(there));
        here
    };
    let (kind, _) = assert_fails(port, Made(temporary));
    assert!(matches!(kind, Post(PostErrorKind::Unusable { index: 2 })));
    assert_ended(&OTHER.take().unwrap(), CloseReason::Closed);
    assert_ended(&peer, CloseReason::Closed); // `assert_fails` dropped the port, and no message came before

    let (port, _peer) = typed_pair();
    let (kind, _) = assert_fails(port, Made(|| buffer_of(b"temporary")));
    assert!(matches!(kind, Post(PostErrorKind::Unusable { index: 2 })));
}

#[test]
fn things_closed_or_dropped_while_lent_are_not_posted() {
    /// A port that a function takes out while it is encoded.
    struct Takes(RefCell<Option<MessagePort>>, fn(MessagePort));
    impl Serialize for Takes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let ok = self.0.borrow().serialize(serializer)?;
            (self.1)(self.0.take().unwrap());
            Ok(ok)
        }
    }
    let ends: [fn(MessagePort); 4] = [
        drop,
        |port| port.close(),
        |port| {
            let (sender, receiver) = port.split();
            drop(receiver);
            drop(sender);
        },
        |port| drop(std::thread::spawn(move || drop(port)).join()),
    ];
    for end in ends {
        let (port, _peer) = typed_pair();
        let (here, there) = pair();
        there.post_message(b"never read", []).unwrap();
        let (witness, inside) = pair();
        there.post_message(b"", [inside.into()]).unwrap();
        let (kind, _) = assert_fails(port, Takes(RefCell::new(Some(here)), end));
        assert!(matches!(kind, Post(PostErrorKind::Unusable { index: 2 })), "{kind:?}");
        assert_ended(&there, CloseReason::Closed);
        assert_ended(&witness, CloseReason::Closed);
    }
}

#[test]
fn a_lent_port_that_is_closed_ends_with_the_post() {
    let (port, peer) = typed_pair();
    let (here, there) = pair();
    let (passenger, lent) = shared(here);
    let closes = Rc::clone(&passenger);
    let error = port.post((lent, Doing(|| closes.close()))).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::Unusable { index: 0 })));
    assert_ended(&there, CloseReason::Closed);
    assert!(passenger.post_message(b"", []).is_err());
    assert_empty(&peer);
}

#[test]
fn a_panic_gives_everything_back() {
    let (port, peer) = typed_pair();
    let (here, there) = pair();
    let ((passenger, lent_port), (buffer, lent_buffer)) = (shared(here), shared(buffer_of(b"pixels")));
    let value = (lent_port, lent_buffer, Doing(|| panic!("as expected")));
    let post = std::panic::AssertUnwindSafe(|| port.post(value).is_ok());
    assert!(std::panic::catch_unwind(post).is_err());
    assert_entangled(&passenger, &there);
    assert_eq!(bytes_of(&buffer), b"pixels");
    assert_empty(&peer);
    // The port of the failed post works too.
    let port: TypedPort<u8, ()> = port.into_port().into();
    port.post(7).unwrap();
    assert_eq!(recv(&peer).data, [7]);
}

#[test]
fn serialize_may_post_values_itself() {
    let (port, peer) = typed_pair();
    let (here, there) = pair();
    let (outer, lent) = shared(here);
    let (inner_port, inner_peer) = pair();
    let inner_port = Rc::new(TypedPort::<Vec<Shared<MessagePort>>, ()>::from(inner_port));
    let (posted, seen) = (Cell::new(0), outer.clone());
    let inner = Doing(|| {
        // A thing that the outer value lends cannot be posted.
        let error = inner_port.post(vec![Shared(Rc::clone(&seen))]).unwrap_err();
        assert!(matches!(error.kind, Post(PostErrorKind::Unusable { index: 0 })));
        inner_port.post(vec![Shared(Rc::new(pair().0)), Shared(Rc::new(pair().0))]).unwrap();
        posted.set(posted.get() + 1);
    });
    let (here2, there2) = pair();
    port.post((lent, inner, here2)).unwrap();
    assert_eq!(posted.get(), 1);
    assert_eq!(recv(&inner_peer).ports.len(), 2);
    let message = recv(&peer);
    assert_eq!(message.data, [0, 1]);
    assert_entangled(&message.ports[0], &there);
    assert_entangled(&message.ports[1], &there2);
}

#[test]
fn encoding_a_port_outside_of_a_typed_port_is_an_error() {
    let (port, peer) = pair();
    assert!(postcard::to_allocvec(&port).is_err());
    assert!(postcard::to_allocvec(&buffer_of(b"x")).is_err());
    assert!(postcard::from_bytes::<MessagePort>(&[0]).is_err());
    assert!(postcard::from_bytes::<TransferBuffer>(&[0]).is_err());
    assert_entangled(&port, &peer);
}

#[test]
fn deserialize_may_receive_values_itself() {
    static INNER: Mutex<Option<MessagePort>> = Mutex::new(None);
    /// Receives another value before the rest of its own.
    struct Receives(MessagePort);
    impl<'de> Deserialize<'de> for Receives {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let inner = INNER.lock().unwrap().take();
            if let Some(inner) = inner {
                let inner: TypedPort<(), MessagePort> = inner.into();
                // This message names a port and carries none: it must not get a port of the outer message.
                assert!(matches!(inner.recv(), Err(RecvError::MessageError { .. })));
                assert_eq!(text(&inner.recv().unwrap()), "inner");
            }
            MessagePort::deserialize(deserializer).map(Self)
        }
    }
    let (inner, inner_peer) = typed_pair::<MessagePort>();
    inner.as_port().post_message(&[0], []).unwrap();
    let (here, there) = pair();
    here.post_message(b"inner", []).unwrap();
    inner.post(there).unwrap();
    *INNER.lock().unwrap() = Some(inner_peer);
    let (port, peer) = typed_pair::<MessagePort>();
    let (here, there) = pair();
    port.post(there).unwrap();
    let Receives(received) = TypedPort::<(), Receives>::from(peer).recv().unwrap();
    assert_entangled(&received, &here);
}

#[test]
fn a_peer_that_discards_ends_the_things_in_a_value() {
    let (port, peer) = typed_pair();
    let (_sender, receiver) = peer.split();
    drop(receiver);
    let (here, there) = pair();
    let (passenger, lent) = shared(here);
    port.post(lent).unwrap();
    assert_ended(&there, CloseReason::Closed);
    assert!(matches!(passenger.recv(), Err(RecvError::Detached)));
}

#[test]
fn a_port_whose_encoding_is_left_out_is_an_error_of_the_receiver() {
    /// Encodes a port, and leaves the encoding out.
    struct LeavesOut(MessagePort);
    impl Serialize for LeavesOut {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            postcard::to_allocvec(&self.0).map_err(S::Error::custom)?;
            serializer.serialize_tuple(0)?.end()
        }
    }
    let (port, peer) = typed_pair();
    let (here, there) = pair();
    port.post(LeavesOut(here)).unwrap();
    let peer: TypedPort<(), ()> = peer.into();
    assert!(matches!(peer.recv(), Err(RecvError::MessageError { .. })));
    assert_ended(&there, CloseReason::Closed);
}
