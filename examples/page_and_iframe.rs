//! The example of the Channel Messaging API with handlers: a page and its iframe, as two processes.

use messageport::{EventLoop, MessageChannel, parent_port, spawn_with_port};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match parent_port() {
        Ok(port) => iframe(port),
        Err(_) => page(),
    }
}

fn page() -> Result<(), Box<dyn std::error::Error>> {
    let frame = MessageChannel::new()?;
    let mut child = spawn_with_port(&mut std::process::Command::new(std::env::current_exe()?), frame.port2)?;
    let events = EventLoop::new()?;

    // otherWindow.postMessage("init", "*", [channel.port2])
    let channel = MessageChannel::new()?;
    frame.port1.post_message(b"init", [channel.port2.into()])?;
    let port = events.add(channel.port1)?;
    port.set_onmessage(|port, event| {
        println!("page: {}", String::from_utf8_lossy(&event.data));
        if event.data == b"ready" {
            port.post_message(b"a message from the page", []).expect("the iframe is there");
        } else {
            port.close();
        }
    });
    events.run()?; // returns when no event can happen any more
    println!("page: the iframe ended with {}", child.wait()?);
    Ok(())
}

fn iframe(parent: messageport::MessagePort) -> Result<(), Box<dyn std::error::Error>> {
    let events = EventLoop::new()?;
    let window = events.add(parent)?;
    window.set_onmessage(|window, event| {
        let events = window.event_loop().expect("the loop is running");
        let port = events.add(event.ports.remove(0)).expect("the port can be added");
        port.set_onmessage(|port, event| {
            println!("iframe: {}", String::from_utf8_lossy(&event.data));
            port.post_message(b"received, thanks", []).expect("the page is there");
        });
        port.set_onclose(|_, event| println!("iframe: {}", event.reason));
        port.post_message(b"ready", []).expect("the page is there");
        window.close();
    });
    events.run()?;
    Ok(())
}
