//! Sharing a model with many workers: `broadcast FILE [WORKERS]` freezes the contents of FILE once, and all worker
//! processes read the same memory.

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
        let answer = port.recv()?; // the worker has read all of the model
        let number = u64::from_le_bytes(answer.data.try_into().map_err(|_| "malformed answer")?);
        println!("process {}: {} bytes, checksum {number:016x}", child.id(), model.len());
    }
    let mut memory = resident("self")?;
    for (_, child) in &workers {
        memory += resident(&child.id().to_string())?;
    }
    println!("{count} workers and this process: {} KiB of memory for {} KiB", memory >> 10, model.len() >> 10);
    for (port, mut child) in workers {
        port.close(); // ends the worker
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

/// Returns the proportional set size in bytes of all buffers that a process has mapped.
fn resident(process: &str) -> std::io::Result<usize> {
    let (mut is_buffer, mut bytes) = (false, 0);
    for line in fs::read_to_string(format!("/proc/{process}/smaps"))?.lines() {
        match line.split_once(':') {
            Some(("Pss", size)) if is_buffer => {
                bytes += size.trim_end_matches("kB").trim().parse::<usize>().unwrap_or(0) << 10
            }
            // A line that starts with an address describes the next mapping.
            _ if line.starts_with(|first: char| first.is_ascii_hexdigit() && !first.is_ascii_uppercase()) => {
                is_buffer = line.contains("/memfd:messageport-buffer");
            }
            _ => {}
        }
    }
    Ok(bytes)
}
