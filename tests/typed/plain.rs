//! Messages of plain data.

use std::thread;

use bytemuck::{Pod, Zeroable};
use messageport::{BufferError, Client, EventLoop, Message, PostDataError, Server, WrongSize};

use crate::harness::*;

rules! {
    plain_values_arrive_as_they_were,
    a_plain_slice_arrives_whole,
    plain_values_are_written_and_read_in_place,
    data_of_any_kind_is_posted_alone,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable, PartialEq, Debug)]
struct Point {
    x: f64,
    y: f64,
    color: [u8; 4],
    number: u32,
}

const POINT: Point = Point { x: 0.5, y: -1e300, color: *b"rgba", number: 7 };

fn plain_values_arrive_as_they_were(peer: &mut Peer) {
    let port = peer.channel();
    port.post_plain(&POINT).unwrap();
    port.post_plain(&u128::MAX).unwrap();
    port.post_plain(&()).unwrap();
    peer.run(|there| {
        let port = there.port();
        assert_eq!(recv(port).plain::<Point>(), Ok(POINT));
        assert_eq!(recv(port).plain::<u128>(), Ok(u128::MAX));
        assert_eq!(recv(port).plain::<()>(), Ok(()));
    });
}

fn a_plain_slice_arrives_whole(peer: &mut Peer) {
    let port = peer.channel();
    port.post_plain_slice(&[POINT; 100]).unwrap();
    port.post_plain_slice::<Point>(&[]).unwrap();
    peer.run(|there| {
        let port = there.port();
        assert_eq!(*recv(port).plain_slice::<Point>().unwrap(), [POINT; 100]);
        assert!(recv(port).plain_slice::<Point>().unwrap().is_empty());
    });
}

fn plain_values_are_written_and_read_in_place(peer: &mut Peer) {
    let (port, len) = (peer.channel(), size_of::<Point>());
    // In the ring, and in a buffer.
    for filler in [0, 100_000] {
        let mut reservation = port.reserve(3 + 3 * len + filler).unwrap();
        reservation.write_value(3, &POINT).unwrap();
        reservation.write_values(3 + len, &[POINT; 2]).unwrap();
        let error = reservation.write_value(4 + 2 * len + filler, &POINT);
        assert!(matches!(error, Err(BufferError::OutOfRange { .. })), "{error:?}");
        reservation.commit().unwrap();
    }
    port.post_plain(&POINT).unwrap();
    peer.run(|there| {
        for _ in 0..2 {
            let message = there.port().recv_ref().unwrap();
            assert_eq!(message.read_value::<Point>(3).unwrap(), POINT);
            let mut points = [Point::zeroed(); 3];
            message.read_values(3, &mut points).unwrap();
            assert_eq!(points, [POINT; 3]);
            assert!(matches!(message.plain::<Point>(), Err(BufferError::WrongSize { size: 24, .. })));
            let end = message.len();
            assert!(matches!(message.read_value::<u8>(end), Err(BufferError::OutOfRange { .. })));
        }
        assert_eq!(there.port().recv_ref().unwrap().plain::<Point>().unwrap(), POINT);
    });
}

fn data_of_any_kind_is_posted_alone(peer: &mut Peer) {
    let port = peer.channel();
    port.post_data(b"an array").unwrap();
    port.post_data("text").unwrap();
    port.post_data_wait(String::from("a string")).unwrap();
    port.post_data_timeout(vec![1, 2], PATIENCE).unwrap();
    port.post_message("with an empty list", []).unwrap();
    port.post_message_detaching(&vec![3], &[]).unwrap();
    peer.run(|there| {
        for expected in [&b"an array"[..], b"text", b"a string", &[1, 2], b"with an empty list", &[3]] {
            assert_eq!(recv(there.port()).data, expected);
        }
    });
}

#[test]
fn data_alone_is_posted_by_every_type_that_posts() {
    let (port1, port2) = pair();
    let (client, server) = (Client::new(port1), Server::new(port2));
    let answering = thread::spawn(move || {
        for _ in 0..3 {
            let (request, responder) = server.recv().expect("a request");
            responder.answer_data(&request.data).map_err(|error| error.kind).expect("room");
        }
    });
    assert_eq!(client.start_data("1").unwrap().wait().unwrap().data, b"1");
    assert_eq!(client.call_data(b"2").unwrap().data, b"2");
    assert_eq!(client.call_data_timeout(vec![3], PATIENCE).unwrap().data, [3]);
    answering.join().expect("no panic");

    let (port1, port2) = pair();
    let (sender, _receiver) = port1.split();
    sender.post_data("from a half").unwrap();
    assert_eq!(port2.recv().unwrap().data, b"from a half");
    let events = EventLoop::new().unwrap();
    let handle = events.add(port2).unwrap();
    handle.post_data("from a loop").unwrap();
    let half = events.add_half(pair().0.split().1).unwrap();
    assert!(matches!(half.post_data(""), Err(PostDataError::Detached)));
}

#[test]
fn a_wrong_size_is_an_error() {
    let message = |len: usize| Message::from(vec![0; len]);
    assert_eq!(message(7).plain::<u64>(), Err(WrongSize { len: 7, size: 8 }));
    assert_eq!(message(9).plain::<u64>(), Err(WrongSize { len: 9, size: 8 }));
    assert_eq!(message(0).plain::<u64>(), Err(WrongSize { len: 0, size: 8 }));
    assert_eq!(message(15).plain_slice::<u64>(), Err(WrongSize { len: 15, size: 8 }));
    assert_eq!(message(1).plain_slice::<()>(), Err(WrongSize { len: 1, size: 0 }));
    assert!(message(0).plain_slice::<()>().is_ok());
}

#[test]
fn plain_data_is_posted_like_any_other() {
    let (port1, port2) = pair_of(4096);
    assert!(matches!(port1.post_plain(&[0_u8; 4096]), Err(PostDataError::TooLarge { len: 4096, .. })));
    drop(port2);
    assert!(matches!(port1.post_plain(&1), Err(PostDataError::PeerGone(_))));
}
