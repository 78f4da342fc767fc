//! The other processes of the demo: the iframe, and the worker that takes over its port.

use std::process::Command;

use messageport::{
    CloseReason, Message, MessageChannel, MessagePort, RecvError, TransferBuffer, parent_port, spawn_with_port,
};
use sha2::{Digest, Sha256};

use super::protocol::{BUFFER, ECHO, HAND_ON, Received, STREAM, hex};
use crate::failure::Failure;

/// Runs the iframe, the second process: answers the page's greeting and requests.
pub(crate) fn iframe() -> Result<(), Failure> {
    let window = parent_port().map_err(Failure::of("the iframe has no parent"))?;
    let mut greeting = window.recv().map_err(Failure::of("the iframe received no greeting"))?;
    let port2 = single(&mut greeting.ports)?;
    let text = String::from_utf8_lossy(&greeting.data);
    post_answer(&port2, &format!("\"Message received by IFrame: {text}\""))?;

    while let Some(mut message) = next(&port2)? {
        match &message.data[..] {
            STREAM => post_answer(&port2, &receive_stream(&single(&mut message.ports)?)?.to_string())?,
            BUFFER => post_answer(&port2, &hash_buffer(&single(&mut message.buffers)?)?.to_string())?,
            ECHO => port2.post_message(ECHO, []).map_err(Failure::of("cannot answer the page"))?,
            HAND_ON => return hand_on(port2),
            other => {
                return Err(Failure::failed(format_args!("the page sent an unknown message of {} bytes", other.len())));
            }
        }
    }
    Ok(())
}

/// Runs the worker, the third process: receives the iframe's port with the messages queued in it, and answers them and
/// all later ones.
pub(crate) fn worker() -> Result<(), Failure> {
    let parent = parent_port().map_err(Failure::of("the worker has no parent"))?;
    let mut message = parent.recv().map_err(Failure::of("the worker received no port"))?;
    let port2 = single(&mut message.ports)?;
    while let Some(message) = next(&port2)? {
        let text = String::from_utf8_lossy(&message.data);
        post_answer(&port2, &format!("\"The worker, process {}. You asked: {text}\"", std::process::id()))?;
    }
    Ok(())
}

/// Starts the worker, transfers the port to it and waits for its end.
fn hand_on(port2: MessagePort) -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(Failure::of("cannot find this executable"))?;
    let channel = MessageChannel::new().map_err(Failure::of("cannot create a channel"))?;
    let child = spawn_with_port(Command::new(this).arg("demo-worker"), channel.port2);
    let mut worker = child.map_err(Failure::of("cannot start the worker process"))?;
    channel.port1.post_message(b"carry on", [port2.into()]).map_err(Failure::of("cannot transfer the port"))?;
    let status = worker.wait().map_err(Failure::of("cannot wait for the worker process"))?;
    if status.success() { Ok(()) } else { Err(Failure::failed(format_args!("the worker process failed: {status}"))) }
}

/// Receives and hashes messages up to the empty one that ends the stream.
fn receive_stream(port: &MessagePort) -> Result<Received, Failure> {
    let mut message = Message::default();
    let (mut sum, mut bytes, mut messages) = (Sha256::new(), 0, 0);
    loop {
        port.recv_into(&mut message).map_err(Failure::of("the stream ended early"))?;
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

fn post_answer(port: &MessagePort, text: &str) -> Result<(), Failure> {
    port.post_message(text.as_bytes(), []).map_err(Failure::of("cannot answer the page"))
}

/// Returns the next message, or `None` once the page has closed its port.
fn next(port: &MessagePort) -> Result<Option<Message>, Failure> {
    match port.recv() {
        Ok(message) => Ok(Some(message)),
        Err(RecvError::Ended(CloseReason::Closed)) => Ok(None),
        Err(error) => Err(Failure::failed(format_args!("the page has gone: {error:#}"))),
    }
}

/// Returns the port or buffer of a message that must carry exactly one.
fn single<T>(things: &mut Vec<T>) -> Result<T, Failure> {
    let thing = things.pop().filter(|_| things.is_empty());
    thing.ok_or_else(|| Failure::failed("a message did not carry exactly one port or buffer"))
}
