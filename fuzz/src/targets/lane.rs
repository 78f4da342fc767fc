//! A hostile peer that writes anything to its end of the segment and of the lane: packets of any kind, number and
//! length with descriptors of any kind, records that match them and records that do not, words of shared memory.
//!
//! The victim uses its port in the ordinary way. It must not panic, hang or leak a descriptor.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::descriptors::{LIMITS, OpenDescriptors, odd, valid};
use crate::end::lane::Lane;
use crate::end::{End, Parts, Side};
use crate::input::Input;
use crate::port::MessagePort;
use crate::port::channel::MessageChannel;
use crate::port::message::Message;
use crate::queue::direction::Direction;
use crate::queue::record::RecordKind;
use crate::queue::ring::{Consumer, Cursors, Producer};
use crate::queue::segment::Segment;
use crate::sys::socket;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The victim never closes one of the descriptors that it received.
    DescriptorLost,
}

pub(crate) fn run(bytes: &[u8]) {
    run_with(bytes, Fault::None);
}

pub(crate) fn run_with(bytes: &[u8], fault: Fault) {
    valid();
    let open = OpenDescriptors::now();
    let mut input = Input::new(bytes);
    let (mut attacker, port) = pair(input.flag());
    let mut victim = Victim { port: Some(port), received: Vec::new() };
    for _ in 0..60 {
        if input.is_empty() {
            break;
        }
        match input.byte() {
            action @ 0..128 => attacker.act(action & 7, &mut input),
            action => victim.act(action & 15, &mut input),
        }
    }
    drop(attacker);
    victim.read_all();
    if fault == Fault::DescriptorLost
        && let Some(descriptor) = victim.received.iter_mut().find_map(|message| message.descriptors.pop())
    {
        std::mem::forget(descriptor);
    }
    drop(victim);
    open.assert_restored();
}

struct Attacker {
    producer: Producer,
    /// The direction from the victim.
    incoming: Direction,
    lane: OwnedFd,
}

fn pair(split: bool) -> (Attacker, MessagePort) {
    let segment = Segment::create(LIMITS, "").expect("a segment");
    let (ours, theirs) = Lane::pair().expect("sockets");
    let lane = ours.as_fd().try_clone_to_owned().expect("a descriptor");
    let outgoing = segment.direction(0);
    let attacker = Attacker { producer: Producer::new(outgoing, Cursors::START), incoming: segment.direction(1), lane };
    let end = Arc::new(End::new(segment, theirs, Side::B));
    let port = MessagePort::from_parts(Parts {
        producer: Producer::new(end.outgoing().clone(), Cursors::START),
        consumer: Consumer::new(end.incoming().clone(), Cursors::START),
        end,
    });
    if !split {
        return (attacker, port);
    }
    let (sender, receiver) = port.split();
    (attacker, MessagePort::join(sender, receiver).expect("two halves of one port"))
}

impl Attacker {
    fn act(&mut self, action: u8, input: &mut Input<'_>) {
        match action {
            // A packet of any kind, with descriptors of any kind.
            0 => {
                let kind = input.pick(&[1_u32, 2, 2, 2, 0, 3, 255]);
                let descriptors = self.descriptors(input);
                let count = descriptors.len() as u32 + input.pick(&[0, 0, 0, 1, 200]);
                let sequence = self.producer.sequence().wrapping_add(input.pick(&[0, 0, 1, u64::MAX, 1 << 40]));
                let len = input.pick(&[16, 16, 16, 16, 15, 17, 0, 1, 32]);
                self.send(kind, count, sequence, len, &descriptors);
            }
            // A record that need not match the packets.
            1 => {
                let kind = input.pick(&[
                    RecordKind::Data,
                    RecordKind::Carrier,
                    RecordKind::Next,
                    RecordKind::Back,
                    RecordKind::Forget,
                    RecordKind::Pad,
                    RecordKind::Buffer,
                ]);
                let handles = if input.flag() { 0 } else { input.byte() };
                let len = input.below(80);
                let payload = input.bytes(len);
                self.record(kind, payload, handles);
            }
            // A record and its packet that match each other, with any table.
            2 | 3 => {
                let descriptors = self.descriptors(input);
                let payload = table(input);
                self.send(2, descriptors.len() as u32, self.producer.sequence(), 16, &descriptors);
                self.record(RecordKind::Carrier, &payload, descriptors.len() as u8);
            }
            // A larger ring.
            4 => {
                let file = input.pick(&[1, 1, 0]);
                self.send(2, 1, self.producer.sequence(), 16, &[valid()[file].as_fd()]);
                self.record(RecordKind::Next, &[], 1);
            }
            // A word of the ring.
            5 => {
                let position = self.producer.cursors().position + 8 * u64::from(input.byte());
                self.producer.direction().header(position).store(input.word(), Ordering::Relaxed);
            }
            // State words, doorbells and the read cursor. Relaxed: to the victim a hostile store needs no order.
            6 => {
                let value = input.pick(&[0, 1, 2, 3, u32::MAX]);
                let outgoing = self.producer.direction();
                match input.below(6) {
                    0 => outgoing.producer_state().store(value, Ordering::Relaxed),
                    1 => self.incoming.consumer_state().store(value, Ordering::Relaxed),
                    2 => outgoing.data_doorbell().store(value, Ordering::Relaxed),
                    3 => self.incoming.space_doorbell().store(value, Ordering::Relaxed),
                    4 => self.incoming.read_cursor().store(u64::from(value) * 8, Ordering::Relaxed),
                    _ => drop(self.incoming.read_cursor().fetch_add(input.word(), Ordering::Relaxed)),
                }
            }
            // Hangs up.
            _ if input.byte() == 7 => socket::shut_down(self.lane.as_fd()),
            // Takes a packet off the lane.
            _ => drop(socket::take(self.lane.as_fd(), &mut [0; 16], 4)),
        }
    }

    fn descriptors(&self, input: &mut Input<'_>) -> Vec<BorrowedFd<'static>> {
        let count = input.pick(&[0, 1, 1, 2, 2, 3, 4, 7, 22]);
        let of = |number: usize| match number % 4 {
            0 => valid()[number / 4 % valid().len()].as_fd(),
            1 => odd()[6].as_fd(), // a valid lane
            _ => odd()[number / 4 % odd().len()].as_fd(),
        };
        (0..count).map(|_| of(input.byte().into())).collect()
    }

    fn send(&self, kind: u32, count: u32, sequence: u64, len: usize, descriptors: &[BorrowedFd<'_>]) {
        let mut packet = [0; 32];
        packet[..4].copy_from_slice(&kind.to_ne_bytes());
        packet[4..8].copy_from_slice(&count.to_ne_bytes());
        packet[8..16].copy_from_slice(&sequence.to_ne_bytes());
        let _ = socket::send(self.lane.as_fd(), &[IoSlice::new(&packet[..len])], descriptors);
    }

    fn record(&mut self, kind: RecordKind, payload: &[u8], handles: u8) {
        if let Ok(claim) = self.producer.claim(payload.len()) {
            self.producer.fill(claim, payload);
            self.producer.commit(claim, payload.len(), kind, handles);
        }
    }
}

/// A payload with a table at its end, mostly of the right length, with capsules that are nearly valid.
fn table(input: &mut Input<'_>) -> Vec<u8> {
    let len = input.below(20);
    let mut payload = input.bytes(len).to_vec();
    let data_len = payload.len() as u32;
    payload.resize(payload.len().next_multiple_of(8), 0);
    let counts: [u16; 5] = std::array::from_fn(|_| input.pick(&[0, 0, 1, 1, 2]));
    let mut slots = 0_u16;
    for _ in 0..counts[0] {
        let number = input.pick(&[0_u32, 0, 1, 3]);
        slots += number as u16;
        let grown = input.pick(&[0_u64, 0, 1, 2, 3, 4]);
        let mut capsule = [u64::from(input.flag()) | grown << 32, 0, 0, 0, 0, 0, 0, 0, 0, u64::from(number)];
        if input.flag() {
            capsule[input.below(10)] = u64::from(input.byte()) << input.pick(&[0, 3, 31, 56]);
        }
        payload.extend(capsule.iter().flat_map(|word| word.to_ne_bytes()));
        for _ in 0..number {
            let slot = [input.pick(&[5000, 5000, 0, u64::MAX]), u64::from(input.byte() & 3) | 1 << 32];
            payload.extend(slot.iter().flat_map(|word| word.to_ne_bytes()));
        }
    }
    for _ in 0..counts[1] {
        let len = input.pick(&[10, 5000, 5001, 0, u64::MAX]);
        let way = u64::from(input.below(5) as u8) << 32 | input.pick(&[0, 0, 1, 2, 200]);
        let capsule = [len, input.pick(&[5000, 5000, 4096, u64::MAX]), way];
        payload.extend(capsule.iter().flat_map(|word| word.to_ne_bytes()));
    }
    for _ in 0..counts[2] + counts[3] {
        payload.extend(input.pick(&[10, 5000, 0, u64::MAX]).to_ne_bytes());
    }
    let body = input.pick(&[0, 0, 0, 1, 2]);
    let data_len = if body == 1 { 0 } else { data_len };
    payload.extend(data_len.to_ne_bytes());
    payload.extend(counts.iter().flat_map(|count| count.to_ne_bytes()));
    payload.extend([slots, body, 0, 0, 0].iter().flat_map(|number: &u16| number.to_ne_bytes()));
    if input.byte() == 255 {
        let at = input.below(payload.len());
        payload[at] ^= input.byte();
    }
    payload
}

struct Victim {
    port: Option<MessagePort>,
    received: Vec<Message>,
}

impl Victim {
    fn act(&mut self, action: u8, input: &mut Input<'_>) {
        let Some(port) = &self.port else { return };
        match action {
            0 => self.received.extend(port.try_recv()),
            1 => self.received.extend(port.recv_timeout(Duration::ZERO)),
            2 => {
                if let Ok(message) = port.try_recv_ref() {
                    let mut data = vec![0; message.len()];
                    message.read_at(0, &mut data).expect("the whole message");
                }
            }
            3 => drop(port.post_message(&vec![7; input.below(3000)], [])),
            4 => {
                if let Ok(buffer) = port.buffer(input.pick(&[1, 5000, 5001])) {
                    let _ = buffer.write_at(0, b"x");
                    let _ = port.post_message(b"buffer", [buffer.into()]);
                }
            }
            // Returns what came with a message.
            5 | 6 => {
                let list = self.received.pop().map(|mut message| message.take_transfer_list());
                let _ = port.post_message(b"back", list.unwrap_or_default());
            }
            // Uses what came with the messages.
            7 | 8 => {
                for message in &self.received {
                    for port in &message.ports {
                        let _ = port.try_recv();
                        let _ = port.post_message(b"no receiver", []);
                    }
                    for buffer in &message.buffers {
                        let _ = buffer.write_at(0, b"y");
                        let _ = buffer.to_vec();
                    }
                    for buffer in &message.frozen {
                        std::hint::black_box(buffer.iter().map(|byte| u32::from(*byte)).sum::<u32>());
                    }
                    for buffer in &message.shared {
                        let _ = buffer.to_vec();
                    }
                }
            }
            9 => self.received.clear(),
            // Transfers the port.
            10 => {
                let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
                let port = self.port.take().expect("checked above");
                match port1.post_message(b"", [port.into()]) {
                    Ok(()) => self.port = port2.try_recv().ok().and_then(|mut message| message.ports.pop()),
                    Err(error) => drop(error),
                }
            }
            11 => {
                let batch: Vec<Vec<u8>> = (0..input.below(6)).map(|_| vec![1; input.below(200)]).collect();
                let _ = port.post_messages(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>());
            }
            12 => drop(port.queued()),
            13 => drop(port.post_message_timeout(&[0; 1000], [], Duration::ZERO)),
            14 if input.byte() < 20 => port.close(),
            _ => {
                let mut message = Message::new();
                let _ = port.try_recv_into(&mut message);
                self.received.push(message);
            }
        }
    }

    fn read_all(&mut self) {
        for _ in 0..200 {
            let Some(port) = &self.port else { return };
            match port.recv_timeout(Duration::ZERO) {
                Ok(message) => self.received.push(message),
                Err(_) if self.received.len() > 20 => return,
                Err(_) => {}
            }
            if port.try_recv().is_err() {
                return;
            }
        }
    }
}
