//! Posts and receives in functions of their own, whose instructions `bench/instructions` counts with callgrind.

use messageport::{Message, MessageChannel, MessagePort};

use crate::error::{Error, Result};

/// Number of messages per call of a counted function, few enough for the queue to hold all of them.
const BURST: u64 = 32;

/// Posts and receives messages. The arguments are their size in bytes, their number, and 0 to receive them with
/// `recv_into` or 1 with `recv_ref`.
pub(crate) fn steps(arguments: &[u64; 3]) -> Result<()> {
    let [size, count, in_place] = *arguments;
    let MessageChannel { port1, port2 } = MessageChannel::new().map_err(Error::of("cannot create a channel"))?;
    let (data, mut message) = (vec![7; size as usize], Message::new());
    // Not counted: these messages fill the ring at least once, so that its pages and the memory of `message` are
    // resident.
    for _ in 0..10_000 {
        port1.post_message(&data, []).map_err(Error::of("cannot post"))?;
        port2.recv_into(&mut message).map_err(Error::of("cannot receive"))?;
    }
    for _ in 0..count / BURST {
        counted_posts(&port1, &data)?;
        if in_place == 0 {
            counted_receives(&port2, &mut message)?;
        } else {
            counted_receives_in_place(&port2)?;
        }
    }
    Ok(())
}

#[inline(never)]
fn counted_posts(port: &MessagePort, data: &[u8]) -> Result<()> {
    (0..BURST).try_for_each(|_| port.post_message(data, []).map_err(Error::of("cannot post")))
}

#[inline(never)]
fn counted_receives(port: &MessagePort, message: &mut Message) -> Result<()> {
    (0..BURST).try_for_each(|_| port.recv_into(message).map_err(Error::of("cannot receive")))
}

#[inline(never)]
fn counted_receives_in_place(port: &MessagePort) -> Result<()> {
    (0..BURST).try_for_each(|_| port.recv_ref().map(drop).map_err(Error::of("cannot receive")))
}
