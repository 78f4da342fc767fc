//! Memory of a length that a peer chooses is asked for in a way that can fail: a process that has none gets an error,
//! and the message stays queued. In these tests the allocator refuses every request for more than 4 KiB, and a request
//! that cannot fail would abort the process.
//!
//! What a peer can make a process allocate without a way to fail is small and fixed. The table of these allocations is
//! in ARCHITECTURE.md, under "Faults".

mod tools;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use messageport::aio::AsyncPort;
use messageport::{
    AnswerError, BufferError, ChannelOptions, Client, ErrorEvent, EventLoop, FrozenBuffer, Message, MessagePort,
    PortSet, RecvError, Server, SetEvent, SharedBuffer, TransferBuffer, Transferable, TryRecvError, TypedClient,
    TypedPort, TypedServer,
};

use tools::child::Role;
use tools::{PATIENCE, assert_entangled, pair, pair_with};

const ROLES: &[Role] = &[];

/// Requests for more than 4 KiB are refused while the thread is poor.
const SMALL: usize = 4 << 10;
/// The thread is not poor.
const RICH: usize = usize::MAX;

thread_local! {
    /// Requests for more than `SMALL` bytes that are still granted, or `RICH`.
    static GRANTED: Cell<usize> = const { Cell::new(RICH) };
}

/// True if a request of the thread is refused.
fn refuses(bytes: usize) -> bool {
    let spend = |granted: &Cell<usize>| match granted.get() {
        RICH => false,
        0 => true,
        count => {
            granted.set(count - 1);
            false
        }
    };
    bytes > SMALL && GRANTED.try_with(spend).unwrap_or(false)
}

struct Refusing;

#[allow(unsafe_code)]
// SAFETY: as `System`, except that some requests fail, as any may.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller adheres to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the memory came from `System`; the caller adheres to the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Calls `work` without memory for anything large.
fn poor<T>(work: impl FnOnce() -> T) -> T {
    poor_after(0, work)
}

/// Calls `work` with memory for `count` large things.
fn poor_after<T>(count: usize, work: impl FnOnce() -> T) -> T {
    struct Rich;
    impl Drop for Rich {
        fn drop(&mut self) {
            GRANTED.set(RICH);
        }
    }
    GRANTED.set(count);
    let _rich = Rich;
    work()
}

/// Calls `receive` with memory for none, one, two and more large things, until it succeeds.
#[track_caller]
fn ever_richer<T>(mut receive: impl FnMut() -> Result<T, TryRecvError>) -> T {
    for count in 0..100 {
        match poor_after(count, &mut receive) {
            Ok(received) => {
                assert!(count > 0, "no large request");
                return received;
            }
            Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("never enough");
}

/// A pair whose ring has room for long messages.
fn large_pair() -> (MessagePort, MessagePort) {
    pair_with(ChannelOptions::new().capacity(1 << 20))
}

/// Longer than what the allocator gives, and than what fits a ring of 64 KiB.
const LONG: usize = 100_000;

fn long() -> Vec<u8> {
    (0..LONG).map(|index| index as u8).collect()
}

/// Things of each kind on a list with many things.
const EACH: usize = 40;

/// Many things of each kind, and the peers of the ports.
fn many_things() -> (Vec<Transferable>, Vec<MessagePort>) {
    let (peers, ports): (Vec<_>, Vec<_>) = (0..EACH).map(|_| pair()).unzip();
    let mut list: Vec<Transferable> = ports.into_iter().map(Transferable::from).collect();
    for index in 0..EACH {
        list.push(numbered(index).into());
        list.push(FrozenBuffer::from_bytes(&[index as u8]).expect("memory").into());
        list.push(SharedBuffer::new(1 + index).expect("memory").into());
        list.push(OwnedFd::from(File::open("/dev/null").expect("a device")).into());
    }
    (list, peers)
}

fn numbered(index: usize) -> TransferBuffer {
    let buffer = TransferBuffer::new(8).expect("memory");
    buffer.write_value(0, &index).expect("inside");
    buffer
}

fn assert_many_things(message: &Message, peers: &[MessagePort]) {
    assert_eq!(message.ports.len(), EACH);
    message.ports.iter().zip(peers).for_each(|(port, peer)| assert_entangled(port, peer));
    let numbers = message.buffers.iter().map(|buffer| buffer.read_value::<usize>(0).expect("inside"));
    assert!(numbers.eq(0..EACH));
    assert!(message.frozen.iter().map(|frozen| frozen[0]).eq(0..EACH as u8));
    assert!(message.shared.iter().map(|shared| shared.len()).eq(1..=EACH));
    assert_eq!(message.descriptors.len(), EACH);
}

#[track_caller]
fn assert_short<T>(result: Result<T, TryRecvError>) {
    match result {
        Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("there was memory"),
    }
}

#[test]
fn long_data_in_the_ring_stays_queued() {
    let (a, b) = large_pair();
    a.post_message(&long(), []).expect("room");
    for _ in 0..3 {
        assert_short(poor(|| b.try_recv()));
    }
    // In place it needs no memory, and a copy of it does.
    let copied = poor(|| b.try_recv_ref().map(|message| message.to_vec()));
    assert!(matches!(copied, Ok(Err(BufferError::ResourceExhausted(_)))), "{copied:?}");
    a.post_message(&long(), []).expect("room");
    assert_short(poor(|| b.try_recv()));
    assert!(b.try_recv().expect("memory").data == long());
}

#[test]
fn long_data_in_a_buffer_stays_queued() {
    let (a, b) = pair();
    let receives = |b: &MessagePort| {
        for _ in 0..3 {
            assert_short(poor(|| b.try_recv()));
        }
        assert!(b.try_recv().expect("memory").data == long());
    };
    // In a new buffer and in a recycled one.
    for _ in 0..3 {
        a.post_message(&long(), []).expect("room");
        receives(&b);
    }
    a.post_message(&long(), []).expect("room");
    let mut message = poor(|| b.try_recv_ref()).expect("in place no memory is needed");
    let mut start = [0; 100];
    poor(|| message.read_exact(&mut start)).expect("inside");
    assert_eq!(start[..], long()[..100]);
    assert!(poor(|| message.to_vec()).is_err());
    assert!(message.to_vec().expect("memory") == long());
}

#[test]
fn many_things_stay_queued() {
    let (a, b) = pair();
    let (list, peers) = many_things();
    a.post_message(b"things", list).expect("room");
    for _ in 0..3 {
        assert_short(poor(|| b.try_recv()));
        assert_short(poor(|| b.try_recv_ref().map(drop)));
    }
    let message = b.try_recv().expect("memory");
    assert_eq!(message.data, b"things");
    assert_many_things(&message, &peers);
    // In place.
    let (list, peers) = many_things();
    a.post_message(b"things", list).expect("room");
    assert_short(poor(|| b.try_recv_ref().map(drop)));
    let things = b.try_recv_ref().expect("memory").take_transferred();
    assert_many_things(&things, &peers);
}

#[test]
fn each_large_request_can_fail() {
    let (a, b) = large_pair();
    for body in [LONG, 2 << 20] {
        let (list, peers) = many_things();
        a.post_message(&vec![7; body], list).expect("room");
        let message = ever_richer(|| b.try_recv());
        assert_eq!(message.data.len(), body);
        assert_many_things(&message, &peers);
        let (list, peers) = many_things();
        a.post_message(&vec![7; body], list).expect("room");
        let things = ever_richer(|| b.try_recv_ref().map(|mut message| message.take_transferred()));
        assert_many_things(&things, &peers);
    }
    let (client, server) = large_pair();
    let (client, server) = (Client::new(client), Server::new(server));
    let (list, peers) = many_things();
    let mut pending = client.start(&long(), list).expect("room");
    let (mut request, responder) = ever_richer(|| server.try_recv());
    responder.answer(&long(), request.take_transfer_list()).map_err(|error| error.kind).expect("room");
    let answer = ever_richer(|| match pending.try_wait() {
        Ok(answer) => Ok(answer.expect("an answer")),
        Err(AnswerError::Failed(error)) => Err(error.into()),
        Err(other) => panic!("{other:?}"),
    });
    assert_many_things(&answer, &peers);
}

#[test]
fn a_message_with_little_needs_little() {
    let (a, b) = pair();
    let (peer, port) = pair();
    peer.post_message(&[7; 1000], [numbered(1).into()]).expect("room");
    let list = vec![
        port.into(),
        numbered(2).into(),
        FrozenBuffer::from_bytes(b"ice").expect("memory").into(),
        SharedBuffer::new(8).expect("memory").into(),
        OwnedFd::from(File::open("/dev/null").expect("a device")).into(),
    ];
    a.post_message(b"little", list).expect("room");
    let message = poor(|| b.try_recv()).expect("little memory is needed");
    assert_eq!((&message.data[..], message.buffers.len(), message.frozen.len()), (b"little".as_slice(), 1, 1));
    assert_eq!((message.shared.len(), message.descriptors.len()), (1, 1));
    // What is nested in it.
    let nested = poor(|| message.ports[0].try_recv()).expect("little memory is needed");
    assert_eq!((nested.data.len(), nested.buffers[0].len()), (1000, 8));
    // A recycled buffer, which travels without a descriptor.
    drop(message);
    for _ in 0..3 {
        a.post_message(b"again", [a.buffer(8).expect("memory").into()]).expect("room");
        assert_eq!(poor(|| b.try_recv()).expect("little memory is needed").buffers.len(), 1);
    }
}

#[test]
fn a_queue_of_nested_ports_is_dropped_without_memory() {
    for count in 0..8 {
        let (a, b) = pair();
        let (list, peers) = many_things();
        let (inner, port) = large_pair();
        inner.post_message(&long(), list).expect("room");
        a.post_message(&[7; 20_000], [port.into()]).expect("room");
        a.post_message(&long(), []).expect("room");
        poor_after(count, || drop(b));
        // What this process could not close, the kernel has closed.
        peers.iter().chain([&inner, &a]).for_each(|peer| assert!(peer.recv_timeout(PATIENCE).is_err()));
    }
}

#[test]
fn several_messages_in_one_call_stay_queued() {
    let (a, b) = large_pair();
    a.post_message(b"short", []).expect("room");
    a.post_message(&long(), []).expect("room");
    a.post_message(b"shorter", []).expect("room");
    let mut messages: Vec<Message> = (0..4).map(|_| Message::new()).collect();
    assert_eq!(poor(|| b.try_recv_messages(&mut messages)).expect("one is short"), 1);
    assert_short(poor(|| b.try_recv_messages(&mut messages)));
    assert_eq!(b.try_recv_messages(&mut messages).expect("memory"), 2);
    assert!(messages[0].data == long() && messages[1].data == b"shorter");
}

#[test]
fn typed_values_stay_queued() {
    type Value = (String, Vec<MessagePort>, Vec<TransferBuffer>);
    let (a, b) = large_pair();
    let (a, b) = (TypedPort::<Value, ()>::from(a), TypedPort::<(), Value>::from(b));
    let (peers, ports): (Vec<_>, Vec<_>) = (0..EACH).map(|_| pair()).unzip();
    a.post(("x".repeat(LONG), ports, (0..EACH).map(numbered).collect())).map_err(|error| error.kind).expect("room");
    for _ in 0..3 {
        assert_short(poor(|| b.try_recv()));
    }
    let (text, ports, buffers) = b.try_recv().expect("memory");
    assert_eq!((text.len(), buffers.len()), (LONG, EACH));
    ports.iter().zip(&peers).for_each(|(port, peer)| assert_entangled(port, peer));
    // Few things of small values.
    let (peer, port) = pair();
    a.post(("x".to_owned(), vec![port], vec![numbered(3)])).map_err(|error| error.kind).expect("room");
    let (_, ports, buffers) = poor(|| b.try_recv()).expect("little memory is needed");
    assert_entangled(&ports[0], &peer);
    assert_eq!(buffers[0].read_value::<usize>(0).expect("inside"), 3);
}

#[test]
fn requests_and_answers_stay_queued() {
    let (client, server) = large_pair();
    let (client, server) = (Client::new(client), Server::new(server));
    let (list, peers) = many_things();
    let mut pending = client.start(&long(), list).expect("room");
    for _ in 0..3 {
        assert_short(poor(|| server.try_recv()));
    }
    let (mut request, responder) = server.try_recv().expect("memory");
    assert!(request.data == long());
    assert_many_things(&request, &peers);
    responder.answer(&long(), request.take_transfer_list()).map_err(|error| error.kind).expect("room");
    for _ in 0..3 {
        let result = poor(|| pending.try_wait());
        assert!(matches!(result, Err(AnswerError::Failed(RecvError::ResourceExhausted(_)))), "{result:?}");
    }
    let answer = pending.try_wait().expect("memory").expect("an answer");
    assert!(answer.data == long());
    assert_many_things(&answer, &peers);
    // A dropped request.
    let mut pending = client.start(b"drop this", []).expect("room");
    poor(|| drop(server.try_recv().expect("little memory is needed")));
    assert!(matches!(poor(|| pending.try_wait()), Err(AnswerError::Dropped)));
}

#[test]
fn a_server_that_serves_is_told_of_the_shortage_and_can_go_on() {
    let (client, server) = large_pair();
    let (client, server) = (Client::new(client), Server::new(server));
    let (list, peers) = many_things();
    let mut pending = client.start(&long(), list).expect("room");
    let error = poor(|| server.serve(|_| ())).expect_err("no memory");
    assert!(error.to_string().contains("cannot receive"), "{error}");
    // It echoes what it received, with everything.
    let thread = std::thread::spawn(move || server.serve(|_| ()));
    let answer = pending.wait_timeout(PATIENCE).expect("memory");
    assert!(answer.data == long());
    assert_many_things(&answer, &peers);
    drop((client, pending));
    thread.join().expect("no panic").expect("the client has closed its end");
}

#[test]
fn typed_requests_and_answers_stay_queued() {
    let (client, server) = large_pair();
    let client = TypedClient::<String, String>::new(client);
    let server = TypedServer::<String, String>::new(server);
    let mut pending = client.start("x".repeat(LONG)).map_err(|error| error.kind).expect("room");
    assert_short(poor(|| server.try_recv()));
    let (request, responder) = server.try_recv().expect("memory");
    responder.answer(request).map_err(|error| error.kind).expect("room");
    assert!(poor(|| pending.try_wait()).is_err());
    assert_eq!(pending.try_wait().expect("memory").expect("an answer").len(), LONG);
}

#[test]
fn sets_and_loops_report_the_shortage_and_go_on() {
    let (a, b) = large_pair();
    let (list, peers) = many_things();
    a.post_message(&long(), list).expect("room");
    let mut set = PortSet::new().expect("descriptors");
    let id = set.add(b).map_err(|error| error.kind).expect("room in the set");
    poor(|| set.wait_timeout(PATIENCE)).expect_err("no memory");
    let Some((_, SetEvent::Message(message))) = set.wait_timeout(PATIENCE).expect("memory") else {
        panic!("no message");
    };
    assert!(message.data == long());
    assert_many_things(&message, &peers);
    // The same for a loop.
    let (list, peers) = many_things();
    a.post_message(&long(), list).expect("room");
    let events = EventLoop::new().expect("descriptors");
    let (reported, received) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(None)));
    let port = events.add(set.remove(id).expect("a port")).map_err(|error| error.kind).expect("room in the loop");
    let count = Rc::clone(&reported);
    events.set_onerror(move |event| {
        assert!(matches!(event, ErrorEvent::ResourceExhausted(_)), "{event:?}");
        count.set(count.get() + 1);
    });
    let place = Rc::clone(&received);
    port.set_onmessage(move |port, event| {
        place.replace(Some((std::mem::take(&mut event.data), event.take_transfer_list())));
        port.event_loop().expect("it runs").stop();
    });
    poor(|| events.run_timeout(Duration::from_millis(5))).expect("no other error");
    assert_eq!((reported.get(), received.borrow().is_some()), (1, false));
    events.run_timeout(PATIENCE).expect("no error");
    let (data, list) = received.take().expect("memory");
    let mut message = Message::from(data);
    message.extend(list);
    assert!(message.data == long());
    assert_many_things(&message, &peers);
}

#[test]
fn tasks_get_the_shortage_and_go_on() {
    let (a, b) = large_pair();
    let (list, peers) = many_things();
    a.post_message(&long(), list).expect("room");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut b = AsyncPort::new(b).expect("a registration");
        assert_short(poor(|| b.try_recv()));
        assert_short(poor(|| b.try_recv()));
        let message = b.recv().await.expect("memory");
        assert!(message.data == long());
        assert_many_things(&message, &peers);
    });
}

#[test]
fn copies_of_buffers_can_fail() {
    let (a, b) = pair();
    let (buffer, shared) = (TransferBuffer::new(LONG).expect("memory"), SharedBuffer::new(LONG).expect("memory"));
    a.post_message(b"", [buffer.into(), shared.into()]).expect("room");
    let message = b.try_recv().expect("memory");
    for buffer in [&*message.buffers[0], &*message.shared[0]] {
        assert!(matches!(poor(|| buffer.to_vec()), Err(BufferError::ResourceExhausted(_))));
        assert_eq!(buffer.to_vec().expect("memory").len(), LONG);
    }
}
