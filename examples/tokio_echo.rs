//! An echo server with a task per client: run `tokio_echo serve NAME` in one terminal and `tokio_echo say NAME
//! WORDS...` in others.

use std::error::Error;

use futures_util::{SinkExt, TryStreamExt};
use messageport::MessagePort;
use messageport::aio::{AsyncListener, AsyncPort, connect};

/// Sends every message back, with its ports and buffers. Waits while the client does not read.
async fn echo(port: MessagePort) -> Result<(), Box<dyn Error>> {
    let mut port = AsyncPort::new(port)?;
    while let Some(message) = port.try_next().await? {
        port.send(message).await?;
    }
    Ok(())
}

async fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    let mut listener = AsyncListener::bind(name)?;
    println!("listening at {}", listener.path().display());
    loop {
        // A want of descriptors ends no server: `accept` waits until there are some again.
        let client = listener.accept().await?;
        let name = client.pid.map_or("a process elsewhere".into(), |pid| format!("process {pid}"));
        println!("{name} says {}", String::from_utf8_lossy(&client.greeting.data));
        tokio::spawn(async move {
            match echo(client.port).await {
                Ok(()) => println!("{name} is done"),
                Err(error) => println!("{name}: {error:#}"),
            }
        });
    }
}

async fn say(name: &str, words: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut sender, mut receiver) = connect(name, b"hello").await?.split();
    // Sends and receives concurrently, so that a long list of words cannot fill both queues.
    let sending = async {
        for word in words {
            sender.post_message_wait(word.as_bytes(), []).await?;
        }
        Ok::<_, Box<dyn Error>>(())
    };
    let printing = async {
        for _ in words {
            println!("{}", String::from_utf8(receiver.recv().await?.data)?);
        }
        Ok(())
    };
    tokio::try_join!(sending, printing).map(drop)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [verb, name] if verb == "serve" => serve(name).await,
        [verb, name, words @ ..] if verb == "say" => say(name, words).await,
        _ => Err("usage: tokio_echo serve NAME | say NAME WORDS...".into()),
    }
}
