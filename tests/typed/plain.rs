//! Messages of plain data.

use bytemuck::{Pod, Zeroable};
use messageport::{Message, PostDataError, WrongSize};

use crate::harness::*;

rules! {
    plain_values_arrive_as_they_were,
    a_plain_slice_arrives_whole,
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
