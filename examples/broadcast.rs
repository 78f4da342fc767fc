//! One model for many workers: `broadcast FILE [WORKERS]` freezes the file's contents once, and every worker process
//! reads the same memory.

use std::fs::{self, File};
use std::process::Command;

use messageport::{FrozenBuffer, MessageChannel, MessagePort, parent_port, spawn_with_port};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        return work(&port);
    }
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: broadcast FILE [WORKERS]")?;
    let count: usize = arguments.next().map_or(Ok(4), |count| count.parse())?;

    let model = FrozenBuffer::from_file(&File::open(path)?)?;
    let mut workers = Vec::new();
    for _ in 0..count {
        let MessageChannel { port1, port2 } = MessageChannel::new()?;
        let child = spawn_with_port(&mut Command::new(std::env::current_exe()?), port2)?;
        port1.post_message(b"the model", [model.clone().into()])?;
        workers.push((port1, child));
    }
    for (port, child) in &workers {
        let answer = port.recv()?; // it has read all of it
        let number = u64::from_le_bytes(answer.data.try_into().map_err(|_| "an odd answer")?);
        println!("process {}: {} bytes, checksum {number:016x}", child.id(), model.len());
    }
    let mut memory = resident("self")?;
    for (_, child) in &workers {
        memory += resident(&child.id().to_string())?;
    }
    println!("{count} workers and this process: {} KiB of memory for {} KiB", memory >> 10, model.len() >> 10);
    for (port, mut child) in workers {
        port.close(); // and the worker ends
        child.wait()?;
    }
    Ok(())
}

fn work(port: &MessagePort) -> Result<(), Box<dyn std::error::Error>> {
    let model = &port.recv()?.frozen[0]; // a plain slice of bytes
    let checksum = model.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
    });
    port.post_message(&checksum.to_le_bytes(), [])?;
    let _ = port.recv(); // until the port is closed
    Ok(())
}

/// A process's share of the memory of all buffers that it has mapped.
fn resident(process: &str) -> std::io::Result<usize> {
    let (mut ours, mut bytes) = (false, 0);
    for line in fs::read_to_string(format!("/proc/{process}/smaps"))?.lines() {
        match line.split_once(':') {
            Some(("Pss", size)) if ours => {
                bytes += size.trim_end_matches("kB").trim().parse::<usize>().unwrap_or(0) << 10
            }
            // A line with an address starts the next mapping.
            _ if line.starts_with(|first: char| first.is_ascii_hexdigit() && !first.is_ascii_uppercase()) => {
                ours = line.contains("/memfd:messageport-buffer");
            }
            _ => {}
        }
    }
    Ok(bytes)
}
