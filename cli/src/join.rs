//! `listen` and `connect`: the standard input and output of two processes, joined through a pair of ports.
//!
//! Each side posts its input in messages. An empty message marks the end of the input. The other side writes everything
//! before it to its output and then posts the acknowledgement: an empty message with a buffer of one byte. A process
//! ends when its input has been acknowledged and it has acknowledged the peer's. So success means that both sides have
//! written everything.
//!
//! One thread reads and posts, one receives and writes, and the main thread waits for events of both and decides when
//! the process ends. A read that blocks on a terminal therefore does not keep the process alive.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use messageport::{
    CloseReason, ConnectOptions, FrozenBuffer, ListenOptions, Message, MessagePort, PostErrorKind, RecvError, RecvHalf,
    SendHalf, Transferable,
};
use nix::unistd::Group;

use crate::failure::{Failure, Line};
use crate::streams;

/// The users that may connect to `listen`.
#[derive(clap::Args)]
pub(crate) struct Access {
    /// Let users connect whom these permission bits of the socket allow to write, for example 660; NAME is then a path
    #[arg(long, value_name = "OCTAL", value_parser = mode)]
    mode: Option<u32>,
    /// Give the socket to this group, by name or number, with mode 660 unless --mode is given
    #[arg(long)]
    group: Option<String>,
}

/// How `connect` finds its listener.
#[derive(clap::Args)]
pub(crate) struct Search {
    /// Wait at most SECONDS for a listener, instead of failing at once if there is none
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Connect to a listener of any user; by default it must run as this user
    #[arg(long)]
    any_user: bool,
}

/// Parses permission bits.
fn mode(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| "not three octal digits, such as 660".to_owned())
}

pub(crate) fn listen(name: &str, access: &Access) -> Result<(), Failure> {
    let refuse = |error: &dyn Display| Failure::refused(format_args!("cannot listen at {name}: {error:#}"));
    check_streams()?;
    let mut options = ListenOptions::new().remove_on_signal(true);
    if access.mode.is_some() || access.group.is_some() {
        options = options.any_uid(true).mode(access.mode.unwrap_or(0o660));
    }
    if let Some(group) = &access.group {
        options = options.group(group_number(group).map_err(|error| refuse(&error))?);
    }
    let listener = options.bind(name).map_err(|error| refuse(&error))?;
    // Standard error, because standard output carries data. A script may wait for this line to start the other side.
    let _ = writeln!(std::io::stderr(), "listening at {}", Line(&listener.path().to_string_lossy()));
    let incoming = listener.accept().map_err(|error| refuse(&error))?;
    drop(listener);
    join(incoming.port)
}

/// The number of a group.
fn group_number(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        _ => Err(format!("there is no group {group}")),
    }
}

pub(crate) fn connect(name: &str, search: &Search) -> Result<(), Failure> {
    check_streams()?;
    let mut options = ConnectOptions::new().any_uid(search.any_user);
    if let Some(seconds) = search.wait {
        options = options.wait_for_listener(true).timeout(Duration::from_secs(seconds));
    }
    let port = options.connect(name, b"");
    join(port.map_err(|error| Failure::refused(format_args!("cannot connect to {name}: {error:#}")))?)
}

fn check_streams() -> Result<(), Failure> {
    streams::check_input()?;
    streams::check_output()
}

/// An event of one of the two threads.
enum Event {
    /// The peer has written all of this side's input.
    InputWritten,
    /// The end of the peer's input has been received, everything before it has been written, and the peer knows.
    OutputEnded,
    /// The peer has gone, and every message that it posted has been received.
    Gone(CloseReason),
    /// A thread has failed.
    Failed(Failure),
}

/// Input is read and posted 128 KiB at a time, as cat(1) does; a queue of 1 MiB holds seven of them.
const CHUNK: usize = 128 << 10;

/// Joins standard input and output with those of the peer.
fn join(port: MessagePort) -> Result<(), Failure> {
    let chunk = CHUNK.min(port.max_message_len());
    let (send, recv) = port.split();
    // The receiving thread posts the acknowledgement. It waits for the lock only when the peer's input has ended, so
    // the peer goes on receiving, and a post that waits for room gets it.
    let send = Arc::new(Mutex::new(send));
    let (events, inbox) = channel();
    let (sender, posting) = (events.clone(), Arc::clone(&send));
    thread::spawn(move || {
        if let Err(failure) = pump_input(&posting, chunk) {
            let _ = sender.send(Event::Failed(failure));
        }
    });
    thread::spawn(move || pump_output(&recv, &send, &events));
    wait(&inbox)
}

/// Waits until both inputs have been written, or for a failure.
fn wait(inbox: &Receiver<Event>) -> Result<(), Failure> {
    let (mut input_written, mut output_ended) = (false, false);
    while !(input_written && output_ended) {
        match inbox.recv().map_err(Failure::of("a thread of this process ended early"))? {
            Event::InputWritten => input_written = true,
            Event::OutputEnded => output_ended = true,
            Event::Gone(reason) => {
                return Err(Failure::peer_gone(format_args!(
                    "the peer closed before both inputs had been written: {reason:#}"
                )));
            }
            Event::Failed(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// Posts standard input until it ends, or until the peer has gone, which the other thread reports.
fn pump_input(send: &Mutex<SendHalf>, chunk: usize) -> Result<(), Failure> {
    let mut stdin = std::io::stdin().lock();
    let mut data = vec![0; chunk];
    loop {
        let len = match stdin.read(&mut data) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::refused(format_args!("cannot read standard input: {error}"))),
        };
        // The empty read at the end of the input results in the empty message that marks the end.
        if !post(send, &data[..len], None)? || len == 0 {
            return Ok(());
        }
    }
}

/// Posts a message. False if the peer has gone.
fn post(send: &Mutex<SendHalf>, data: &[u8], thing: Option<Transferable>) -> Result<bool, Failure> {
    let send = send.lock().unwrap_or_else(PoisonError::into_inner);
    match send.post_message_wait(data, thing).map_err(|error| error.kind) {
        Ok(()) => Ok(true),
        Err(PostErrorKind::PeerGone(_)) => Ok(false),
        Err(error) => Err(Failure::failed(format_args!("cannot post: {error:#}"))),
    }
}

/// Posts the acknowledgement that all of the peer's input has been written.
fn acknowledge(send: &Mutex<SendHalf>) -> Result<(), Failure> {
    let mark = FrozenBuffer::from_bytes(&[1]).map_err(Failure::of("cannot acknowledge the peer's input"))?;
    post(send, &[], Some(mark.into())).map(drop)
}

/// Writes received messages to standard output until the peer has gone, and sends the events of this direction.
fn pump_output(recv: &RecvHalf, send: &Mutex<SendHalf>, events: &Sender<Event>) {
    let mut message = Message::default();
    let mut stdout = std::io::stdout().lock();
    let end = loop {
        match recv.recv_into(&mut message) {
            Ok(()) if !message.data.is_empty() => {
                if let Err(error) = stdout.write_all(&message.data).and_then(|()| stdout.flush()) {
                    break Event::Failed(Failure::refused(format_args!("cannot write to standard output: {error}")));
                }
            }
            Ok(()) if !message.frozen.is_empty() => _ = events.send(Event::InputWritten),
            Ok(()) => {
                // The reader of standard output sees its end although this side's input may continue.
                close_stdout();
                match acknowledge(send) {
                    Ok(()) => _ = events.send(Event::OutputEnded),
                    Err(failure) => break Event::Failed(failure),
                }
            }
            Err(RecvError::Ended(reason)) => break Event::Gone(reason),
            Err(error) => break Event::Failed(Failure::failed(format_args!("cannot receive: {error:#}"))),
        }
    };
    let _ = events.send(end);
}

/// Replaces standard output by `/dev/null`, so that its reader sees the end of file.
fn close_stdout() {
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}
