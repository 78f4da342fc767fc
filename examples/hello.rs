//! A parent, a child, a buffer and a port.

use messageport::{MessageChannel, TransferBuffer, parent_port, spawn_with_port};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(port) = parent_port() {
        // The child: takes a message with a port on it, and answers over that port.
        let message = port.recv()?;
        println!("child: {} bytes in a buffer", message.buffers[0].len());
        message.ports[0].post_message(b"hello from the child", [])?;
        return Ok(());
    }
    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let mut child = spawn_with_port(&mut std::process::Command::new(std::env::current_exe()?), port2)?;

    let answers = MessageChannel::new()?;
    let buffer = TransferBuffer::new(16 << 20)?; // moves by handle, never copied
    port1.post_message(b"work", [buffer.into(), answers.port2.into()])?;
    println!("parent: {}", String::from_utf8(answers.port1.recv()?.data)?);
    child.wait()?;
    Ok(())
}
