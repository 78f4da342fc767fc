//! Operations on a few channels in any order, by one thread, against a model made of queues: ports are transferred with
//! what is in their queues, buffers are recycled, queues grow and go back, ends close in the middle.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::descriptors::{OpenDescriptors, odd};
use crate::buffer::TransferBuffer;
use crate::buffer::frozen::FrozenBuffer;
use crate::buffer::shared::SharedBuffer;
use crate::error::{PostErrorKind, RecvError, RecvTimeoutError, TryRecvError};
use crate::input::Input;
use crate::port::MessagePort;
use crate::port::channel::{ChannelOptions, MessageChannel};
use crate::port::message::Message;
use crate::port::transfer::Transferable;

/// A run has at most 6 channels.
const MAX_CHANNELS: usize = 6;
/// A run has at most 200 operations.
const MAX_OPERATIONS: usize = 200;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The third message is received and dropped.
    MessageLost,
    /// The first two ports of a message are swapped.
    PortsSwapped,
}

pub(crate) fn run(bytes: &[u8]) {
    run_with(bytes, Fault::None);
}

pub(crate) fn run_with(bytes: &[u8], fault: Fault) {
    odd();
    let open = OpenDescriptors::now();
    let mut input = Input::new(bytes);
    let mut world = World { fault, ..World::default() };
    world.channel(&mut input);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
    }
    world.finish();
    drop(world);
    open.assert_restored();
}

/// An end of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct EndId {
    channel: usize,
    /// 0 or 1.
    side: usize,
}

impl EndId {
    fn peer(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

/// The model of a message in a queue.
#[derive(Debug, Default)]
struct Posted {
    data: Vec<u8>,
    ports: Vec<EndId>,
    /// The mark of each buffer, which is its first and last byte, and its length.
    buffers: Vec<(u8, usize)>,
    /// The mark of each frozen buffer.
    frozen: Vec<u8>,
    /// The mark of each shared buffer.
    shared: Vec<u8>,
    descriptors: usize,
}

/// The model of a channel.
#[derive(Default, Debug)]
struct ChannelModel {
    /// The messages that wait for each side.
    queues: [VecDeque<Posted>; 2],
    closed: [bool; 2],
}

/// The ports and buffers that the user holds, and the model of all channels.
#[derive(Default)]
struct World {
    channels: Vec<ChannelModel>,
    ports: Vec<(EndId, MessagePort)>,
    buffers: Vec<(TransferBuffer, u8)>,
    frozen: Vec<(FrozenBuffer, u8)>,
    shared: Vec<(SharedBuffer, u8)>,
    count: u64,
    received: usize,
    fault: Fault,
}

impl World {
    fn act(&mut self, input: &mut Input<'_>) {
        if self.ports.is_empty() {
            return self.channel(input);
        }
        match input.byte() & 31 {
            0 => self.channel(input),
            1..10 => self.post(input),
            10..20 => self.receive(input),
            20 => {
                let at = input.below(self.ports.len());
                let (id, port) = self.ports.swap_remove(at);
                if input.flag() {
                    port.close();
                }
                drop(port);
                self.close(id);
            }
            21 => {
                let at = input.below(self.ports.len());
                let (id, port) = self.ports.swap_remove(at);
                let (sender, receiver) = port.split();
                self.ports.push((id, MessagePort::join(sender, receiver).expect("two halves of one port")));
            }
            22 | 23 => self.post_reservation(input),
            24 | 25 => self.post_several(input),
            26 => self.receive_several(input),
            27 if !self.buffers.is_empty() => {
                let at = input.below(self.buffers.len());
                let (buffer, mark) = self.buffers.swap_remove(at);
                check_buffer(&buffer, mark, buffer.len());
                if input.flag()
                    && let Ok(frozen) = buffer.freeze()
                {
                    self.frozen.push((frozen, mark));
                }
            }
            28 => assert!(self.ports.iter().all(|(_, port)| port.queued().capacity >= 4096)),
            _ => drop((self.frozen.pop(), self.shared.pop())),
        }
    }

    fn channel(&mut self, input: &mut Input<'_>) {
        if self.channels.len() == MAX_CHANNELS {
            return;
        }
        let options = ChannelOptions::new().capacity(4096).max_capacity(input.pick(&[4096, 16384, 65536]));
        let options = options.cached_buffers(input.pick(&[0, 1, 3])).max_handles(input.pick(&[2, 6, 253]));
        let MessageChannel { port1, port2 } = options.create().expect("a channel");
        let channel = self.channels.len();
        self.channels.push(ChannelModel::default());
        self.ports.push((EndId { channel, side: 0 }, port1));
        self.ports.push((EndId { channel, side: 1 }, port2));
    }

    /// Closes an end in the model, with everything that waits for it.
    fn close(&mut self, id: EndId) {
        if !std::mem::replace(&mut self.channels[id.channel].closed[id.side], true) {
            for posted in std::mem::take(&mut self.channels[id.channel].queues[id.side]) {
                posted.ports.into_iter().for_each(|port| self.close(port));
            }
        }
    }

    /// The ends that the user holds or can still receive. The others are in a circle of queues that contain each
    /// other's ports.
    fn reachable(&self) -> HashSet<EndId> {
        let mut found: HashSet<EndId> = self.ports.iter().map(|(id, _)| *id).collect();
        let mut rest: Vec<EndId> = found.iter().copied().collect();
        while let Some(EndId { channel, side }) = rest.pop() {
            for port in self.channels[channel].queues[side].iter().flat_map(|posted| &posted.ports) {
                if found.insert(*port) {
                    rest.push(*port);
                }
            }
        }
        found
    }

    fn is_open(&self, id: EndId) -> bool {
        !self.channels[id.channel].closed[id.side] && self.reachable().contains(&id)
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        self.count += 1;
        (0..len as u64).map(|index| (self.count * 31 + index) as u8).collect()
    }

    fn post(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.ports.len());
        let (id, port) = self.ports.swap_remove(at);
        let len = input.pick(&[0, 8, 8, 60, 61, 300, 500, 1000, 1700, 1784, 1785, 5000, 9000]);
        let mut posted = Posted { data: self.data(len), ..Posted::default() };
        let mut list: Vec<Transferable> = Vec::new();
        for _ in 0..input.pick(&[0, 0, 0, 0, 1, 1, 2, 4]) {
            let mark = input.byte();
            match input.below(8) {
                0..3 if !self.ports.is_empty() => {
                    let (id, port) = self.ports.swap_remove(usize::from(mark) % self.ports.len());
                    posted.ports.push(id);
                    list.push(port.into());
                }
                kind @ (3 | 4) => {
                    let len = input.pick(&[1, 100, 5000]);
                    let buffer = if kind == 3 { TransferBuffer::new(len) } else { port.buffer(len) };
                    let Ok(buffer) = buffer else { continue };
                    buffer.write_at(0, &[mark]).expect("the first byte");
                    buffer.write_at(len - 1, &[mark]).expect("the last byte");
                    posted.buffers.push((mark, len));
                    list.push(buffer.into());
                }
                5 if !self.buffers.is_empty() => {
                    let (buffer, mark) = self.buffers.swap_remove(usize::from(mark) % self.buffers.len());
                    posted.buffers.push((mark, buffer.len()));
                    list.push(buffer.into());
                }
                6 => {
                    let frozen = self.frozen.pop();
                    let (frozen, mark) =
                        frozen.unwrap_or_else(|| (FrozenBuffer::from_bytes(&[mark, 0, mark]).expect("memory"), mark));
                    posted.frozen.push(mark);
                    list.push(frozen.into());
                }
                7 if mark & 1 == 0 => {
                    let (shared, mark) = self.shared.pop().unwrap_or_else(|| {
                        let shared = SharedBuffer::new(100).expect("memory");
                        shared.write_at(99, &[mark]).expect("the last byte");
                        (shared, mark)
                    });
                    posted.shared.push(mark);
                    list.push(shared.into());
                }
                _ => {
                    posted.descriptors += 1;
                    list.push(OwnedFd::from(File::open("/dev/null").expect("/dev/null exists")).into());
                }
            }
        }
        let result = if input.byte() & 7 == 0 {
            port.post_message_timeout(&posted.data, list, Duration::ZERO)
        } else {
            port.post_message(&posted.data, list)
        };
        self.ports.push((id, port));
        match result {
            Ok(()) => self.posted(id, posted),
            Err(error) => {
                let (kind, list) = error.into_parts();
                self.check_not_posted(id, &kind, &posted);
                self.take_back(list, posted);
            }
        }
    }

    fn posted(&mut self, id: EndId, posted: Posted) {
        let peer = id.peer();
        if self.channels[peer.channel].closed[peer.side] {
            panic!("the model: a post to a closed port succeeds");
        }
        self.channels[peer.channel].queues[peer.side].push_back(posted);
    }

    fn check_not_posted(&self, id: EndId, kind: &PostErrorKind, posted: &Posted) {
        let peer = id.peer();
        let transferred = posted.ports.len() + posted.buffers.len();
        let allowed = match kind {
            PostErrorKind::ContainsPeer { .. } => posted.ports.contains(&peer),
            PostErrorKind::PeerGone(_) => !self.is_open(peer),
            PostErrorKind::Full(_) | PostErrorKind::TimedOut => {
                !self.channels[peer.channel].queues[peer.side].is_empty()
            }
            PostErrorKind::TooManyHandles { handles, max } => handles > max,
            PostErrorKind::TooLarge { len, max } => len > max && transferred > 0,
            _ => false,
        };
        assert!(allowed, "the model: {kind:?} from {id:?} with {posted:?}");
    }

    /// Takes back the transfer list of a post that failed.
    fn take_back(&mut self, list: Vec<Transferable>, posted: Posted) {
        let (mut ports, mut buffers) = (posted.ports.into_iter(), posted.buffers.into_iter());
        let (mut frozen, mut shared) = (posted.frozen.into_iter(), posted.shared.into_iter());
        let mut descriptors = posted.descriptors;
        for item in list {
            match item {
                Transferable::Port(port) => self.ports.push((ports.next().expect("the model: a port"), port)),
                Transferable::Buffer(buffer) => {
                    let (mark, len) = buffers.next().expect("the model: a buffer");
                    check_buffer(&buffer, mark, len);
                    self.buffers.push((buffer, mark));
                }
                Transferable::Frozen(buffer) => {
                    self.frozen.push((buffer, frozen.next().expect("the model: a buffer")));
                }
                Transferable::Shared(buffer) => {
                    self.shared.push((buffer, shared.next().expect("the model: a buffer")));
                }
                Transferable::Descriptor(_) => descriptors -= 1,
            }
        }
        let left = ports.len() + buffers.len() + frozen.len() + shared.len() + descriptors;
        assert_eq!(left, 0, "the model: the error does not return the whole list");
    }

    fn post_reservation(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.ports.len());
        let room = input.pick(&[0, 8, 100, 1784, 4000]);
        let data = self.data(input.below(room + 1));
        let commit = input.byte() & 3 != 0;
        let (id, port) = &self.ports[at];
        let id = *id;
        let posted_in_place = port.reserve(room).and_then(|mut reservation| {
            reservation.write_at(0, &data).expect("the data fits the reservation");
            if commit { reservation.commit_len(data.len()).map(|()| true) } else { Ok(false) }
        });
        let posted = Posted { data, ..Posted::default() };
        match posted_in_place {
            Ok(true) => self.posted(id, posted),
            Ok(false) => {}
            Err(error) => self.check_not_posted(id, &error.into(), &posted),
        }
    }

    fn post_several(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.ports.len());
        let count = input.below(12);
        let len = input.pick(&[0, 8, 64, 700, 2000]);
        let batch: Vec<Vec<u8>> = (0..count).map(|_| self.data(len)).collect();
        let (id, port) = &self.ports[at];
        let id = *id;
        let result = port.post_messages(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let count = result.as_ref().map_or_else(|error| error.posted, |()| batch.len());
        for data in batch.into_iter().take(count) {
            self.posted(id, Posted { data, ..Posted::default() });
        }
        if let Err(error) = result {
            self.check_not_posted(id, &error.kind.into(), &Posted::default());
        }
    }

    fn receive(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.ports.len());
        let (id, port) = &self.ports[at];
        let id = *id;
        let mut message = Message::from(vec![9; 20]);
        let result = match input.byte() & 7 {
            0 | 1 => port.try_recv_into(&mut message),
            2 => port.recv_timeout(Duration::ZERO).map(|received| message = received).map_err(|error| match error {
                RecvTimeoutError::TimedOut => TryRecvError::Empty,
                RecvTimeoutError::Failed(error) => TryRecvError::Failed(error),
            }),
            3 | 4 => port.try_recv_ref().map(|mut read| {
                message = read.take_transferred();
                message.data = read.to_vec().expect("the whole message");
            }),
            _ => port.try_recv().map(|received| message = received),
        };
        match result {
            Ok(()) => self.arrived(id, message),
            Err(error) => self.check_not_received(id, &error),
        }
    }

    fn receive_several(&mut self, input: &mut Input<'_>) {
        let at = input.below(self.ports.len());
        let (id, port) = &self.ports[at];
        let id = *id;
        let mut messages: Vec<Message> = (0..1 + input.below(8)).map(|_| Message::new()).collect();
        match port.try_recv_messages(&mut messages) {
            Ok(count) => messages.into_iter().take(count).for_each(|message| self.arrived(id, message)),
            Err(error) => self.check_not_received(id, &error),
        }
    }

    fn check_not_received(&self, id: EndId, error: &TryRecvError) {
        let queue = &self.channels[id.channel].queues[id.side];
        assert!(queue.is_empty(), "the model: {error:?} at {id:?}, where {queue:?} waits");
        let allowed = match error {
            TryRecvError::Empty => true,
            TryRecvError::Failed(RecvError::Ended(_)) => !self.is_open(id.peer()),
            TryRecvError::Failed(_) => false,
        };
        assert!(allowed, "the model: {error:?} at {id:?}");
    }

    fn arrived(&mut self, id: EndId, mut message: Message) {
        self.received += 1;
        if self.fault == Fault::MessageLost && self.received == 3 {
            return;
        }
        let posted = self.channels[id.channel].queues[id.side].pop_front().expect("the model: nothing was posted");
        assert!(message.data == posted.data, "the model: wrong data at {id:?}");
        if self.fault == Fault::PortsSwapped && message.ports.len() > 1 {
            message.ports.swap(0, 1);
        }
        let counts = [message.ports.len(), message.buffers.len(), message.frozen.len(), message.shared.len()];
        let expected = [posted.ports.len(), posted.buffers.len(), posted.frozen.len(), posted.shared.len()];
        assert_eq!(counts, expected, "the model: the counts of what came with a message");
        assert_eq!(message.descriptors.len(), posted.descriptors, "the model: descriptors");
        self.ports.extend(posted.ports.into_iter().zip(message.ports));
        for (buffer, (mark, len)) in message.buffers.into_iter().zip(posted.buffers) {
            check_buffer(&buffer, mark, len);
            self.buffers.push((buffer, mark));
        }
        for (buffer, mark) in message.frozen.into_iter().zip(posted.frozen) {
            assert!(buffer[0] == mark && buffer[buffer.len() - 1] == mark, "the model: a frozen buffer");
            self.frozen.push((buffer, mark));
        }
        for (buffer, mark) in message.shared.into_iter().zip(posted.shared) {
            let mut last = [0];
            buffer.read_at(99, &mut last).expect("the last byte");
            assert_eq!(last, [mark], "the model: a shared buffer");
            self.shared.push((buffer, mark));
        }
    }

    /// Asserts that every message that waits arrives, and that every end whose peer is closed reports it.
    fn finish(&mut self) {
        for _ in 0..2 * MAX_OPERATIONS {
            let Some(at) = self.ports.iter().position(|(id, _)| !self.channels[id.channel].queues[id.side].is_empty())
            else {
                break;
            };
            let id = self.ports[at].0;
            match self.ports[at].1.recv_timeout(Duration::from_secs(5)) {
                Ok(message) => self.arrived(id, message),
                Err(error) => panic!("the model: {error:?} at {id:?}, where a message waits"),
            }
        }
        let ends: Vec<_> = self.ports.iter().map(|(id, _)| *id).collect();
        for (at, id) in ends.into_iter().enumerate() {
            let peer = id.peer();
            if self.channels[peer.channel].closed[peer.side] && self.channels[id.channel].queues[id.side].is_empty() {
                let result = self.ports[at].1.recv_timeout(Duration::from_secs(5));
                let ended = matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(_))));
                assert!(ended, "the model: {result:?} at {id:?}, whose peer is closed");
            }
        }
    }
}

fn check_buffer(buffer: &TransferBuffer, mark: u8, len: usize) {
    let mut ends = [[0]; 2];
    assert_eq!(buffer.len(), len, "the model: length of a buffer");
    buffer.read_at(0, &mut ends[0]).expect("the first byte");
    buffer.read_at(len - 1, &mut ends[1]).expect("the last byte");
    assert_eq!(ends, [[mark]; 2], "the model: contents of a buffer");
}
