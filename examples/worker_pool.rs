//! A pool of three worker processes. Each job carries a frame and a reply port.

use std::process::Command;

use messageport::{MessageChannel, MessagePort, TransferBuffer, TypedPort, parent_port, spawn_with_port};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Job {
    color: u8,
    frame: TransferBuffer, // moves to the worker without a copy
    reply: TypedPort<Done, ()>,
}

#[derive(Serialize, Deserialize)]
struct Done {
    frame: TransferBuffer,
    worker: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        return work(port);
    }
    let mut pool = Vec::new();
    for _ in 0..3 {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        let child = spawn_with_port(&mut Command::new(std::env::current_exe()?), port2)?;
        pool.push((child, TypedPort::<Job, ()>::from(port1)));
    }
    let mut replies = Vec::new();
    for (color, (_, worker)) in (1..=6).zip(pool.iter().cycle()) {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        worker.post(Job { color, frame: TransferBuffer::new(1 << 20)?, reply: port2.into() })?;
        replies.push(TypedPort::<(), Done>::from(port1));
    }
    for reply in replies {
        let Done { frame, worker } = reply.recv()?;
        let number = pool.iter().position(|(child, _)| child.id() == worker);
        let mut pixel = [0];
        frame.read_at(frame.len() - 1, &mut pixel)?;
        println!("worker {number:?} has painted {} bytes with {pixel:?}", frame.len());
    }
    for (mut child, port) in pool {
        drop(port); // the worker's `recv` returns an error, and the worker exits
        child.wait()?;
    }
    Ok(())
}

fn work(port: MessagePort) -> Result<(), Box<dyn std::error::Error>> {
    let jobs: TypedPort<(), Job> = port.into();
    while let Ok(Job { color, frame, reply }) = jobs.recv() {
        frame.write_at(0, &vec![color; frame.len()])?;
        reply.post(Done { frame, worker: std::process::id() })?;
    }
    Ok(())
}
