//! A worker pool: jobs with a frame and a reply port in them, handed out to whichever worker process is free.

use messageport::{MessageChannel, MessagePort, TransferBuffer, TypedPort, parent_port, spawn_with_port};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Job {
    name: String,
    frame: TransferBuffer, // moves to the worker, and is not copied
    reply: TypedPort<Done, ()>,
}

#[derive(Serialize, Deserialize)]
struct Done {
    sum: u64,
    frame: TransferBuffer,
}

/// A worker that is ready sends a port for its next job.
#[derive(Serialize, Deserialize)]
struct Ready(TypedPort<(), Job>);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        return work(port);
    }
    let mut workers = Vec::new();
    for _ in 0..3 {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        let child = spawn_with_port(&mut std::process::Command::new(std::env::current_exe()?), port2)?;
        workers.push((child, TypedPort::<(), Ready>::from(port1)));
    }
    let mut replies = Vec::new();
    for number in 0..6 {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        let frame = TransferBuffer::new(1 << 20)?;
        frame.write_at(0, &vec![number + 1; 1 << 20])?;
        let Ready(worker) = workers[usize::from(number) % 3].1.recv()?;
        let worker: TypedPort<Job, ()> = worker.into_port().into();
        worker.post(Job { name: format!("frame {number}"), frame, reply: port2.into() })?;
        replies.push((format!("frame {number}"), TypedPort::<(), Done>::from(port1)));
    }
    for (name, reply) in replies {
        let Done { sum, frame } = reply.recv()?;
        println!("{name}: sum {sum} of {} bytes", frame.len());
    }
    for (mut child, port) in workers {
        drop(port); // the worker sees the end of its port, and ends
        child.wait()?;
    }
    Ok(())
}

fn work(port: MessagePort) -> Result<(), Box<dyn std::error::Error>> {
    let pool: TypedPort<Ready, ()> = port.into();
    loop {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        if pool.post(Ready(port2.into())).is_err() {
            return Ok(());
        }
        let Ok(Job { frame, reply, .. }) = TypedPort::<(), Job>::from(port1).recv() else { return Ok(()) };
        let mut bytes = vec![0; frame.len()];
        frame.read_at(0, &mut bytes)?;
        reply.post(Done { sum: bytes.iter().map(|byte| u64::from(*byte)).sum(), frame })?;
    }
}
