//! The processes that the page of the demo talks to: the iframe, and the worker that takes over its port.

use std::process::Command;

use messageport::{
    CloseReason, Message, MessageChannel, MessagePort, RecvError, TransferBuffer, parent_port, spawn_with_port,
};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// What the page asks for: "a stream follows on this port", "hash this buffer", "hand your port on".
pub(crate) const STREAM: &[u8] = b"stream";
pub(crate) const BUFFER: &[u8] = b"buffer";
pub(crate) const HAND_ON: &[u8] = b"hand on";

pub(crate) fn iframe() -> Result<(), Failure> {
    let window = parent_port().map_err(Failure::of("the iframe has no parent"))?;
    let mut greeting = window.recv().map_err(Failure::of("the iframe got no greeting"))?;
    let port2 = only(&mut greeting.ports)?;
    let text = String::from_utf8_lossy(&greeting.data);
    answer(&port2, &format!("\"Message received by IFrame: {text}\""))?;

    while let Some(mut message) = next(&port2)? {
        match &message.data[..] {
            STREAM => answer(&port2, &receive_stream(&only(&mut message.ports)?)?.to_string())?,
            BUFFER => answer(&port2, &hash_buffer(&only(&mut message.buffers)?)?.to_string())?,
            HAND_ON => return hand_on(port2),
            other => {
                return Err(Failure::failed(format_args!("the page sent an unknown message of {} bytes", other.len())));
            }
        }
    }
    Ok(())
}

/// The third process: gets the port with whatever waits in its queue, and answers to the end.
pub(crate) fn worker() -> Result<(), Failure> {
    let parent = parent_port().map_err(Failure::of("the worker has no parent"))?;
    let mut message = parent.recv().map_err(Failure::of("the worker got no port"))?;
    let port2 = only(&mut message.ports)?;
    while let Some(message) = next(&port2)? {
        let text = String::from_utf8_lossy(&message.data);
        answer(&port2, &format!("\"The worker, process {}. You asked: {text}\"", std::process::id()))?;
    }
    Ok(())
}

fn hand_on(port2: MessagePort) -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(Failure::of("cannot find this executable"))?;
    let channel = MessageChannel::new().map_err(Failure::of("cannot make a channel"))?;
    let child = spawn_with_port(Command::new(this).arg("demo-worker"), channel.port2);
    let mut worker = child.map_err(Failure::of("cannot start the worker process"))?;
    channel.port1.post_message(b"carry on", [port2.into()]).map_err(Failure::of("cannot hand the port on"))?;
    let status = worker.wait().map_err(Failure::of("cannot wait for the worker process"))?;
    if status.success() { Ok(()) } else { Err(Failure::failed(format_args!("the worker process failed: {status}"))) }
}

fn receive_stream(port: &MessagePort) -> Result<Received, Failure> {
    let mut message = Message::default();
    let (mut sum, mut bytes, mut messages) = (Sha256::new(), 0, 0);
    loop {
        port.recv_into(&mut message).map_err(Failure::of("the stream broke off"))?;
        if message.data.is_empty() {
            return Ok(Received { hex: hex(sum), bytes, messages });
        }
        sum.update(&message.data);
        bytes += message.data.len() as u64;
        messages += 1;
    }
}

fn hash_buffer(buffer: &TransferBuffer) -> Result<Received, Failure> {
    let mut piece = vec![0; buffer.len().min(256 << 10)];
    let (mut sum, mut at) = (Sha256::new(), 0);
    while at < buffer.len() {
        let len = piece.len().min(buffer.len() - at);
        buffer.read_at(at, &mut piece[..len]).map_err(Failure::of("cannot read the buffer"))?;
        sum.update(&piece[..len]);
        at += len;
    }
    Ok(Received { hex: hex(sum), bytes: at as u64, messages: 1 })
}

/// What the iframe received, as it reports it to the page.
pub(crate) struct Received {
    pub(crate) hex: String,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl std::fmt::Display for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.hex, self.bytes, self.messages)
    }
}

impl Received {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut words = text.split(' ');
        let parsed = (|| {
            let hex = words.next()?.to_owned();
            let bytes = words.next()?.parse().ok()?;
            let messages = words.next()?.parse().ok()?;
            Some(Self { hex, bytes, messages })
        })();
        parsed.ok_or_else(|| Failure::failed(format_args!("the iframe's report is malformed: {text}")))
    }
}

pub(crate) fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(port: &MessagePort, text: &str) -> Result<(), Failure> {
    port.post_message(text.as_bytes(), []).map_err(Failure::of("cannot answer the page"))
}

/// The next message, or none once the page has closed its end.
fn next(port: &MessagePort) -> Result<Option<Message>, Failure> {
    match port.recv() {
        Ok(message) => Ok(Some(message)),
        Err(RecvError::Ended(CloseReason::Closed)) => Ok(None),
        Err(error) => Err(Failure::failed(format_args!("the page is gone: {error:#}"))),
    }
}

/// The one port or buffer that the message has to carry.
fn only<T>(things: &mut Vec<T>) -> Result<T, Failure> {
    let thing = things.pop().filter(|_| things.is_empty());
    thing.ok_or_else(|| Failure::failed("a message did not carry the one port or buffer that it announced"))
}
