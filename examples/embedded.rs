//! Ports in the event loop of an existing program: its epoll instance waits for a socket and for the one descriptor of
//! an [`EventLoop`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use messageport::{EventLoop, MessageChannel};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const PORTS: u64 = 0;
const SOCKET: u64 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The existing program: an epoll instance and a socket.
    let (mut socket, mut user) = UnixStream::pair()?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, SOCKET))?;

    // The ports add one descriptor. When it is readable, the program calls `dispatch`.
    let events = EventLoop::new()?;
    epoll.add(&events, EpollEvent::new(EpollFlags::EPOLLIN, PORTS))?;

    let MessageChannel { port1, port2 } = MessageChannel::new()?;
    let worker = std::thread::spawn(move || {
        while let Ok(message) = port2.recv() {
            port2.post_message(&message.data.to_ascii_uppercase(), []).expect("the program is there");
        }
    });
    let port = events.add(port1)?;
    port.set_onmessage(|_, event| println!("from the worker: {}", String::from_utf8_lossy(&event.data)));
    events.set_timeout(Duration::from_millis(50), |_| println!("a timer"));

    user.write_all(b"a line for the worker")?;
    drop(user);
    let (mut open, mut dispatched) = (true, 0);
    while open || dispatched < 2 {
        let mut ready = [EpollEvent::empty(); 8];
        let count = epoll.wait(&mut ready, EpollTimeout::NONE)?;
        for event in &ready[..count] {
            match event.data() {
                PORTS => dispatched += events.dispatch()?,
                _ => {
                    let mut line = [0; 100];
                    match socket.read(&mut line)? {
                        0 => {
                            epoll.delete(&socket)?;
                            open = false;
                        }
                        len => port.post_message(&line[..len], [])?,
                    }
                }
            }
        }
    }
    port.close();
    worker.join().expect("the worker ends with its port");
    Ok(())
}
