//! S01 to S04: two entangled ports.

use messageport::{Message, MessageChannel, MessagePort, PostErrorKind, RecvError, TransferRef, TryRecvError};

use crate::harness::*;

rules! {
    s01_new_makes_two_entangled_ports,
    s02_both_ends_are_equal_and_full_duplex,
    s03_an_end_has_one_owner,
    s04_a_port_is_a_bearer_capability,
}

fn s01_new_makes_two_entangled_ports(peer: &mut Peer) {
    let ports = {
        let channel = MessageChannel::new().unwrap();
        (channel.port1, channel.port2)
    };
    assert_entangled(&ports.0, &ports.1);
    // Two channels are independent.
    let other = peer.channel();
    peer.give(ports.1);
    other.post_message(b"one channel", []).unwrap();
    ports.0.post_message(b"the other channel", []).unwrap();
    peer.run(|there| {
        for (port, expected) in there.ports.iter().zip(["one channel", "the other channel"]) {
            assert_eq!(text(port), expected);
            assert_empty(port);
            port.post_message(expected.as_bytes(), []).unwrap();
        }
    });
    assert_eq!(text(&other), "one channel");
    assert_eq!(text(&ports.0), "the other channel");
}

fn s02_both_ends_are_equal_and_full_duplex(peer: &mut Peer) {
    // Both ends post before either is given away.
    let (here, there) = pair();
    post_numbers(&here, 0..10);
    post_numbers(&there, 0..10);
    peer.give(there);
    // Both ends post at the same time, before any message is received.
    peer.begin(|there| post_numbers(there.port(), 10..1000));
    post_numbers(&here, 10..1000);
    peer.finish();
    expect_numbers(&here, 0..1000);
    peer.run(|there| expect_numbers(there.port(), 0..1000));
    // The end that is given away can be port1 as well.
    let (there, here) = pair();
    peer.give(there);
    peer.run(|there| there.ports[1].post_message(b"from port1", []).unwrap());
    assert_eq!(text(&here), "from port1");
}

fn s03_an_end_has_one_owner(peer: &mut Peer) {
    /// For a type that can be copied the call is ambiguous, a compile error.
    trait NotClone<Marker> {
        fn holds() {}
    }
    impl<T> NotClone<()> for T {}
    impl<T: Clone> NotClone<u8> for T {}
    <MessagePort as NotClone<_>>::holds();

    let (witness, port) = pair();
    let carrier = peer.channel();
    post_numbers(&witness, 0..10);
    carrier.post_message_detaching(b"", &[TransferRef::Port(&port)]).unwrap();
    post_numbers(&witness, 10..20);
    // The old handle can do nothing, in transit and afterwards; the new owner has everything.
    let assert_ghost = || {
        assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Detached))));
        assert!(matches!(port.post_message(b"from a ghost", []).unwrap_err().kind, PostErrorKind::Detached));
    };
    assert_ghost();
    peer.run(|there| {
        let port = recv_port(there.port());
        there.ports.push(port);
    });
    assert_ghost();
    peer.run(|there| {
        expect_numbers(&there.ports[1], 0..20);
        assert_empty(&there.ports[1]);
        there.ports[1].post_message(b"from the owner", []).unwrap();
    });
    assert_eq!(text(&witness), "from the owner");
    assert_empty(&witness);
}

fn s04_a_port_is_a_bearer_capability(peer: &mut Peer) {
    let mut third = peer.another();
    let port = peer.channel();
    let road = third.channel();
    peer.run(|there| there.port().post_message(b"from the second", []).unwrap());
    // The second holder passes it on.
    let passed_on = peer.run_for_port(|there| {
        let port = there.ports.remove(0);
        there.give_back(port);
    });
    road.post_message(b"", [passed_on.into()]).unwrap();
    third.run(|there| recv_port(there.port()).post_message(b"from the third", []).unwrap());
    // No field identifies the sender: data, ports and buffers only.
    for expected in ["from the second", "from the third"] {
        let Message { data, ports, buffers, .. } = recv(&port);
        assert_eq!(data, expected.as_bytes());
        assert!(ports.is_empty() && buffers.is_empty());
    }
    third.stop();
}
