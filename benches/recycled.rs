//! The cost of a buffer: recycled buffers compared with a message of 64 bytes, fresh ones with their bare system calls
//! and page faults. The contestants take turns; medians and fifth percentiles are printed.
//!
//! `cargo bench --bench recycled`; `-- --test` only checks that it works.

mod pinned;

use std::hint::black_box;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use messageport::{ChannelOptions, Message, MessageChannel, MessagePort, TransferBuffer};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use pinned::{allowed_cpus, pin, quantile, time};

/// Spin time of the ports, long enough for them never to sleep.
const SPIN: Duration = Duration::from_secs(1);
/// Size in bytes of a message without a buffer.
const SMALL: usize = 64;
/// Distance in bytes between the accesses that touch each page.
const PAGE: usize = 4096;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    recycled(if quick { 2 } else { 400 }, if quick { 10 } else { 1000 });
    fresh(if quick { 2 } else { 200 });
}

/// Measures round trips over one channel to a thread on another CPU, which drops each buffer and answers with 64 bytes.
fn recycled(rounds: usize, trips: u32) {
    let cpus = allowed_cpus();
    let [near, far, ..] = cpus[..] else {
        return println!("round trips skipped: they need two CPUs, and only one is allowed");
    };
    let options = ChannelOptions::new().cached_bytes(4 << 30);
    let MessageChannel { port1: port, port2 } = options.create().unwrap();
    let (started, starts) = mpsc::channel();
    let answering = std::thread::spawn(move || {
        pin(far);
        port2.set_spin(SPIN);
        started.send(()).unwrap();
        let mut message = Message::new();
        while port2.recv_into(&mut message).is_ok() {
            message.clear();
            port2.post_message(&[1; SMALL], []).unwrap();
        }
    });
    pin(near);
    port.set_spin(SPIN);
    starts.recv().unwrap();
    let lens = [None, Some(4 << 10), Some(1 << 20), Some(1 << 30)];
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for index in 0..lens.len() {
            let index = if round % 2 == 0 { index } else { lens.len() - 1 - index };
            times[index].push(time(1, trips, || trip(&port, lens[index])));
        }
    }
    drop(port);
    answering.join().unwrap();
    println!("round trip, ns        median      5 %   x 64 bytes");
    let names = ["64 bytes", "recycled 4 KiB", "recycled 1 MiB", "recycled 1 GiB"];
    report(&names, &times);
    // On one thread nothing waits, so this is the cost of the calls without the distance of the cores.
    let MessageChannel { port1, port2 } = options.create().unwrap();
    let mut times: [Vec<f64>; 4] = Default::default();
    let mut message = Message::new();
    for _ in 0..rounds {
        for (len, times) in lens.iter().zip(&mut times) {
            times.push(time(1, trips, || {
                post(&port1, *len);
                port2.recv_into(&mut message).unwrap();
                message.clear();
            }));
        }
    }
    println!("post, receive and drop on one thread, ns");
    report(&names, &times);
}

/// Posts a message, with a recycled buffer of `len` bytes if given, and waits for the answer.
fn trip(port: &MessagePort, len: Option<usize>) {
    post(port, len);
    let mut answer = Message::new();
    port.recv_into(&mut answer).unwrap();
    black_box(answer);
}

/// Posts a message, with a recycled buffer of `len` bytes if given.
fn post(port: &MessagePort, len: Option<usize>) {
    match len {
        None => port.post_message(&[1; SMALL], []).unwrap(),
        Some(len) => port.post_message(b"", [port.buffer(len).unwrap().into()]).unwrap(),
    }
}

/// Measures fresh buffers of 1 MiB on one thread: created, written, posted, received, read and dropped.
fn fresh(rounds: usize) {
    const LEN: usize = 1 << 20;
    let MessageChannel { port1, port2 } = ChannelOptions::new().cached_buffers(0).create().unwrap();
    let lane = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        times[0].push(time(1, 1, || bare(&lane, LEN)));
        times[1].push(time(1, 1, || {
            let buffer = TransferBuffer::new(LEN).unwrap();
            for page in (0..LEN).step_by(PAGE) {
                buffer.write_value(page, &1_u8).unwrap();
            }
            port1.post_message(b"", [buffer.into()]).unwrap();
            let message = port2.recv().unwrap();
            for page in (0..LEN).step_by(PAGE) {
                black_box(message.buffers[0].read_value::<u8>(page).unwrap());
            }
        }));
    }
    println!("fresh buffer of 1 MiB, each page touched on both sides, ns");
    report(&["bare system calls", "messageport"], &times);
}

/// Makes only the system calls and page faults that a fresh buffer cannot avoid.
fn bare(lane: &(OwnedFd, OwnedFd), len: usize) {
    let file = memfd_create(c"bare", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    ftruncate(&file, len as i64).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)).unwrap();
    fallocate(&file, FallocateFlags::empty(), 0, len as i64).unwrap();
    let mapping = MmapOptions::new().len(len).map_raw(&file).unwrap();
    touch(&mapping, |page| page.store(1, Ordering::Relaxed));
    let raw = [file.as_raw_fd()];
    let flags = MsgFlags::MSG_DONTWAIT;
    let control = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(lane.0.as_raw_fd(), &[IoSlice::new(&[0; 16])], &control, flags, None).unwrap();
    drop((mapping, file));
    let (mut bytes, mut space) = ([0; 16], nix::cmsg_space!([i32; 1]));
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg::<()>(lane.1.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let Some(ControlMessageOwned::ScmRights(raw)) = received.cmsgs().unwrap().next() else { panic!("no descriptor") };
    #[allow(unsafe_code)]
    // SAFETY: recvmsg has just installed this descriptor, and nothing else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(raw[0]) };
    fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
    assert_eq!(fstat(&file).unwrap().st_size, len as i64);
    let mapping = MmapOptions::new().len(len).map_raw(&file).unwrap();
    touch(&mapping, |page| {
        black_box(page.load(Ordering::Relaxed));
    });
}

/// Calls `touch` with the first byte of each page.
fn touch(mapping: &MmapRaw, mut touch: impl FnMut(&AtomicU8)) {
    for page in (0..mapping.len()).step_by(PAGE) {
        let byte = mapping.as_mut_ptr().wrapping_add(page);
        #[allow(unsafe_code)]
        // SAFETY: the byte lies in the mapping, which outlives the reference and is accessed only by atomics.
        touch(unsafe { AtomicU8::from_ptr(byte) });
    }
}

/// Prints the median and the fifth percentile of each contestant, and their ratios to the first one.
fn report(names: &[&str], times: &[Vec<f64>]) {
    let quantiles = |times: &[f64]| [0.5, 0.05].map(|part| quantile(part, times.iter().copied()));
    let base = quantiles(&times[0]);
    for (name, times) in names.iter().zip(times) {
        let found = quantiles(times);
        let ratios = [0, 1].map(|index| found[index] / base[index]);
        println!("{name:18} {:9.1} {:9.1}   {:.2}, {:.2}", found[0], found[1], ratios[0], ratios[1]);
    }
}
