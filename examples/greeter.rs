//! The first of two programs that meet by name: it answers its clients, one after the other. The second is `visitor`.

use messageport::Listener;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("greeter".into()); // or the path of a socket
    for client in Listener::bind(&name)?.incoming() {
        let port = client?.port;
        while let Ok(message) = port.recv() {
            if port.post_data([b"hello, ", &message.data[..]].concat()).is_err() {
                break;
            }
        } // the client is gone
    }
    Ok(())
}
