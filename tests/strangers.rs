//! Processes that do not trust each other: what a client can reach of the listener, and what a process that has held a
//! descriptor of a channel can do to the channel's later holders.

mod tools;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;
use std::{fs, thread};

use messageport::{
    ChannelOptions, ConnectOptions, Listener, MessagePort, PostErrorKind, RecvTimeoutError, parent_port,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept, bind, connect as connect_socket, listen, socket,
};
use nix::sys::stat::fstat;
use nix::unistd::dup;

use tools::attacker::{self, WAKE, packet};
use tools::child::{Process, Role};
use tools::ledger::{Ledger, alone};
use tools::{PATIENCE, assert_entangled, cost_of, end_of, pair, pair_of, readable, text, within};

const ROLES: &[Role] = &[("client", client), ("former holder", former_holder)];

/// Five seconds: a call with a deadline of a fraction of a second that takes longer hangs.
const HANGS: Duration = Duration::from_secs(5);

/// A path for a socket, removed by its listener.
fn path(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("messageport-strangers-{}-{name}", std::process::id()));
    path.to_str().expect("a path of text").to_owned()
}

/// The identity of the file or socket behind a descriptor.
fn inode(descriptor: BorrowedFd<'_>) -> u64 {
    fstat(descriptor).expect("an open descriptor").st_ino
}

/// The sockets that a process has open.
fn sockets_of(process: u32) -> BTreeSet<u64> {
    let links = fs::read_dir(format!("/proc/{process}/fd")).expect("a process of this user").flatten();
    let links = links.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()));
    links.filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// A role: connects by hand, and keeps everything that it gets.
fn client() {
    let carrier = parent_port().expect("a port");
    let connection = by_hand(&text(&carrier));
    attacker::send(&connection, &greeting(), &[]).expect("room");
    let (_answer, _kept) = receive(&connection, 1000);
    carrier.post_message(b"kept", []).expect("room");
    let _ = carrier.recv();
}

#[test]
fn a_client_never_has_a_descriptor_of_the_listeners_end() {
    let _alone = alone();
    let name = path("kept");
    let listener = Listener::bind(&name).expect("a free name");
    let (process, carrier) = Process::start("client");
    carrier.post_message(name.as_bytes(), []).expect("room");
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    assert_eq!(incoming.pid, Some(process.id() as i32));
    assert_eq!(text(&carrier), "kept");
    let (lane, held) = (inode(incoming.port.as_fd()), sockets_of(process.id()));
    assert!(sockets_of(std::process::id()).contains(&lane), "the lane of the listener's end is a socket");
    assert!(held.len() >= 3, "the client has its connection, its carrier and a lane");
    assert!(!held.contains(&lane), "the client has the lane of the listener's end");
}

/// A connection to a listener that speaks for itself.
fn by_hand(name: &str) -> OwnedFd {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    connect_socket(socket.as_raw_fd(), &UnixAddr::new(name).expect("an address")).expect("a listener");
    socket
}

/// The greeting of a client of this library, with a channel of 64 KiB a direction.
fn greeting() -> Vec<u8> {
    let mut packet = b"msgphi!\0".to_vec();
    packet.extend([1_u32, 4096].iter().flat_map(|word| word.to_ne_bytes()));
    packet.extend([1_u64 << 16; 2].iter().flat_map(|word| word.to_ne_bytes()));
    packet.resize(128, 0);
    packet
}

/// Receives a packet of at most `len` bytes with its descriptors, by hand.
#[allow(unsafe_code)]
fn receive(socket: &OwnedFd, len: usize) -> (Vec<u8>, Vec<OwnedFd>) {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    assert!(readable(socket, PATIENCE), "no packet");
    let (mut bytes, mut control) = (vec![0; len], nix::cmsg_space!([i32; 253]));
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    // A listener that hangs up without reading everything is reported first, by an error.
    let mut result = Err(Errno::ECONNRESET);
    while result.as_ref().is_err_and(|errno: &Errno| *errno == Errno::ECONNRESET) {
        result = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
    }
    let received = result.expect("a packet");
    let mut descriptors = Vec::new();
    for message in received.cmsgs().expect("whole control messages") {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the descriptors are new, and these are their only owners.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let len = received.bytes;
    bytes.truncate(len);
    (bytes, descriptors)
}

#[test]
fn the_answer_brings_the_clients_end_and_nothing_else() {
    let _alone = alone();
    let name = path("answer");
    let listener = Listener::bind(&name).expect("a free name");
    let client = by_hand(&name);
    attacker::send(&client, &greeting(), &[]).expect("room");
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    let (bytes, descriptors) = receive(&client, 1000);
    assert_eq!((bytes.len(), descriptors.len()), (16 + 96 + 24, 2), "a header, a capsule, the end of a table");
    let lane = inode(incoming.port.as_fd());
    assert!(descriptors.iter().all(|descriptor| inode(descriptor.as_fd()) != lane));
    // The second descriptor is the lane of the client's end, and the listener's port sees the end of it.
    drop((descriptors, client));
    end_of(&incoming.port);
}

#[test]
fn a_greeting_with_descriptors_is_refused_and_they_are_closed() {
    let _alone = alone();
    let name = path("laden");
    let listener = Listener::bind(&name).expect("a free name");
    let before = Ledger::now();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let client = by_hand(&name);
    attacker::send(&client, &greeting(), &[writer.as_fd()]).expect("room");
    drop(writer);
    assert!(listener.accept_timeout(Duration::from_millis(100)).is_err());
    assert_eq!(listener.refused(), 1);
    assert_eq!(receive(&client, 1000).0[8..], [1, 0, 0, 0, 0, 0, 0, 0], "version 1, refused");
    within(HANGS, move || assert_eq!(reader.read(&mut [0]).expect("a pipe"), 0, "the descriptor is still open"));
    drop(client);
    before.assert_restored("after the client");
    // An honest client is served.
    let client = {
        let name = name.clone();
        thread::spawn(move || ConnectOptions::new().timeout(PATIENCE).connect(&name, b""))
    };
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    assert_entangled(&incoming.port, &client.join().expect("no panic").expect("accepted"));
}

/// A socket whose close waits for 20 s, since its peer does not read what was sent; and its peer.
#[allow(unsafe_code)]
fn lingering() -> (TcpStream, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback interface");
    let mut ours = TcpStream::connect(server.local_addr().expect("an address")).expect("a connection");
    let (theirs, _) = server.accept().expect("a connection");
    ours.set_nonblocking(true).expect("a socket");
    while ours.write(&[0; 1 << 16]).is_ok() {}
    let linger = libc::linger { l_onoff: 1, l_linger: 20 };
    nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::Linger, &linger).expect("a socket");
    (ours, theirs)
}

#[test]
fn descriptors_that_are_slow_to_close_delay_no_call() {
    let _alone = alone();
    let name = path("linger");
    let listener = Listener::bind(&name).expect("a free name");
    // In the greeting; behind a greeting; and without a greeting, behind a packet of no bytes.
    for (first, laden) in [(None, &greeting()[..]), (Some(&greeting()[..]), b"more"), (Some(&[]), b"")] {
        let (slow, peer) = lingering();
        let client = by_hand(&name);
        if let Some(first) = first {
            attacker::send(&client, first, &[]).expect("room");
        }
        attacker::send(&client, laden, &[slow.as_fd()]).expect("room");
        drop(slow);
        let listening = &listener;
        let (accepted, cost) = cost_of(|| listening.accept_timeout(Duration::from_millis(100)));
        let (_, drop_cost) = cost_of(|| drop(accepted));
        assert!(cost.time + drop_cost.time < HANGS, "waited for the close of a descriptor: {:?}", cost.time);
        drop((peer, client));
    }
    // From a listener, behind its refusal.
    drop(listener);
    let listening = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(listening.as_raw_fd(), &UnixAddr::new(name.as_str()).expect("an address")).expect("a free name");
    listen(&listening, Backlog::new(5).expect("a number")).expect("listening");
    let client = {
        let name = name.clone();
        thread::spawn(move || cost_of(|| ConnectOptions::new().timeout(PATIENCE).connect(&name, b"")))
    };
    #[allow(unsafe_code)]
    // SAFETY: the descriptor is new, and this is its only owner.
    let connection = unsafe { OwnedFd::from_raw_fd(accept(listening.as_raw_fd()).expect("a client")) };
    let (slow, peer) = lingering();
    let mut refusal = b"msgphi!\0".to_vec();
    refusal.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    attacker::send(&connection, &refusal, &[]).expect("room");
    if let Err(errno) = attacker::send(&connection, b"behind", &[slow.as_fd()]) {
        assert_eq!(errno, Errno::EPIPE, "the client has hung up already");
    }
    drop((slow, connection));
    let (result, cost) = client.join().expect("no panic");
    result.expect_err("a refusal");
    assert!(cost.time < HANGS, "waited for the close of a descriptor: {:?}", cost.time);
    drop(peer);
    fs::remove_file(&name).expect("the socket");
}

// Renewing a port.

/// A page whose first access waits for as long as the returned userfaultfd(2) lives.
#[allow(unsafe_code)]
fn stuck_page() -> Result<(usize, OwnedFd), Errno> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous page.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: takes no pointers.
    let number = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new, and this is its only owner.
    let faults = unsafe { OwnedFd::from_raw_fd(number as i32) };
    // UFFDIO_API; and UFFDIO_REGISTER, for the first access to the page.
    let (mut api, mut range) = ([0xAA_u64, 0, 0], [page as u64, 4096, 1, 0]);
    // SAFETY: a struct of the size that the request names.
    Errno::result(unsafe { libc::ioctl(faults.as_raw_fd(), 0xc018_aa3f_u32 as _, api.as_mut_ptr()) })?;
    // SAFETY: a struct of the size that the request names. Nothing refers to the page.
    Errno::result(unsafe { libc::ioctl(faults.as_raw_fd(), 0xc020_aa00_u32 as _, range.as_mut_ptr()) })?;
    Ok((page as usize, faults))
}

/// A role: makes a pair, gives one end away, and keeps a duplicate of the lane of that end, against the rules. It
/// receives on the duplicate into a page that never comes, which keeps every other receive on the socket waiting. At
/// the end that it kept it is an honest peer.
fn former_holder() {
    let carrier = parent_port().expect("a port");
    let (ours, given) = pair();
    let kept = dup(given.as_fd()).expect("a descriptor");
    // Something is queued whose receipt means a receive on the lane.
    let (nested, _) = pair();
    ours.post_message(b"with a port", [nested.into()]).expect("room");
    carrier.post_message(b"", [given.into()]).expect("room");
    match stuck_page() {
        Err(errno) => carrier.post_message(errno.desc().as_bytes(), []).expect("room"),
        Ok((page, faults)) => {
            attacker::send(&ours.as_fd(), &packet(WAKE, 0, 0), &[]).expect("room");
            thread::spawn(move || {
                #[allow(unsafe_code)]
                // SAFETY: the page is this thread's alone; the call never returns.
                unsafe {
                    libc::recv(kept.as_raw_fd(), page as *mut libc::c_void, 16, 0)
                }
            });
            // The receive has met the page, so it holds the lock of the socket.
            assert!(readable(&faults, PATIENCE), "the page was not touched");
            carrier.post_message(b"held", []).expect("room");
            let renewed = ours.recv_timeout(PATIENCE).expect("a new end").ports.remove(0);
            assert!(matches!(carrier.recv().expect("a word").data.as_slice(), b"go"));
            renewed.post_message(b"hello", []).expect("room");
            carrier.recv().expect_err("the end");
        }
    }
}

#[test]
fn a_renewed_port_does_not_wait_for_a_former_holder() {
    let _alone = alone();
    let (process, carrier) = Process::start("former holder");
    let port = carrier.recv_timeout(PATIENCE).expect("a message").ports.remove(0);
    match &*text(&carrier) {
        "held" => {}
        reason => return println!("SKIPPED: no userfaultfd(2) here: {reason}"),
    }
    within(HANGS, move || {
        let port = port.renew().expect("a new channel");
        let nothing = port.recv_timeout(Duration::from_millis(100));
        assert!(matches!(nothing, Err(RecvTimeoutError::TimedOut)), "{nothing:?}");
        carrier.post_message(b"go", []).expect("room");
        assert_eq!(text(&port), "hello");
        port.close();
        drop((port, carrier));
    });
    drop(process);
}

#[test]
fn a_renewed_port_has_the_old_limits_and_the_old_port_closes() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = ports(&ChannelOptions::new().capacity(8192).max_message_len(5000));
    theirs.post_message(b"dropped", []).expect("room");
    let renewed = ours.renew().expect("a new channel");
    let mut message = theirs.recv_timeout(PATIENCE).expect("a message");
    assert_eq!((&*message.data, message.ports.len()), (&b""[..], 1));
    end_of(&theirs);
    let port = message.ports.remove(0);
    assert_entangled(&renewed, &port);
    assert_eq!((port.max_message_len(), renewed.max_message_len()), (5000, 5000));
    assert_eq!(port.max_inline_len(), theirs.max_inline_len());
    drop((renewed, port, theirs, message));
    before.assert_restored("after the ports");
}

#[test]
fn a_port_that_cannot_be_renewed_is_given_back() {
    let _alone = alone();
    let before = Ledger::now();
    let (ours, theirs) = ports(&ChannelOptions::new().max_handles(1));
    let error = ours.renew().expect_err("a channel without room for a port");
    assert!(matches!(error.kind, PostErrorKind::TooManyHandles { handles: 2, max: 1 }), "{error:?}");
    let ours = error.into_inner();
    assert_entangled(&ours, &theirs);
    drop((ours, theirs));
    // A queue that is full.
    let (ours, theirs) = pair_of(4096);
    while ours.post_message(&[0; 1000], []).is_ok() {}
    while ours.post_message(&[], []).is_ok() {}
    let error = ours.renew().expect_err("no room");
    assert!(matches!(error.kind, PostErrorKind::Full(_)), "{error:?}");
    while theirs.try_recv().is_ok() {}
    let ours = error.into_inner();
    assert_entangled(&ours, &theirs);
    // A peer that is gone.
    drop(theirs);
    let error = ours.renew().expect_err("no peer");
    assert!(matches!(error.kind, PostErrorKind::PeerGone(_)), "{error:?}");
    drop(error);
    before.assert_restored("after the attempts");
}

fn ports(options: &ChannelOptions) -> (MessagePort, MessagePort) {
    let channel = options.create().expect("a channel");
    (channel.port1, channel.port2)
}
