//! `listen` and `connect`: the standard input and output of two processes, joined through a pair of ports.
//!
//! Each side posts its input in messages; an empty message marks the end of the input. One thread reads and posts, one
//! receives and writes, and the main thread waits for events of both and decides when the process ends. A read that
//! blocks on a terminal therefore does not keep the process alive.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use messageport::{CloseReason, Listener, Message, MessagePort, PostErrorKind, RecvError, RecvHalf, SendHalf};

use crate::failure::Failure;

pub(crate) fn listen(name: &str) -> Result<(), Failure> {
    let refuse = |error: &dyn std::fmt::Display| Failure::refused(format_args!("cannot listen at {name}: {error:#}"));
    let listener = Listener::bind(name).map_err(|error| refuse(&error))?;
    // Standard error, because standard output carries data. A script may wait for this line to start the other side.
    let _ = writeln!(std::io::stderr(), "listening at {}", listener.path().display());
    let incoming = listener.accept().map_err(|error| refuse(&error))?;
    drop(listener);
    join(incoming.port)
}

pub(crate) fn connect(name: &str) -> Result<(), Failure> {
    let port = messageport::connect(name, b"");
    join(port.map_err(|error| Failure::refused(format_args!("cannot connect to {name}: {error:#}")))?)
}

/// An event of one of the two threads.
enum Event {
    /// The end of this side's input has been posted.
    InputEnded,
    /// This side's input cannot be posted any more, because the peer has gone.
    InputCut,
    /// The end of the peer's input has been received, and everything before it has been written.
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
    let (events, inbox) = channel();
    let posting_end = Arc::new(AtomicBool::new(false));
    let (sender, mark) = (events.clone(), posting_end.clone());
    thread::spawn(move || drop(sender.send(pump_input(&send, chunk, &mark))));
    thread::spawn(move || pump_output(&recv, &events));
    wait(&inbox, &posting_end)
}

/// Waits for the end of both inputs, or for a failure.
fn wait(inbox: &Receiver<Event>, posting_end: &AtomicBool) -> Result<(), Failure> {
    let (mut input_ended, mut input_cut, mut output_ended) = (false, false, false);
    let mut gone = None;
    while !(input_ended && output_ended) {
        match inbox.recv().map_err(Failure::of("a thread of this process ended early"))? {
            Event::InputEnded => input_ended = true,
            Event::InputCut => input_cut = true,
            Event::OutputEnded => output_ended = true,
            Event::Gone(reason) => gone = Some(reason),
            Event::Failed(failure) => return Err(failure),
        }
        // A peer that has seen the end of both inputs leaves at once. Its departure may be noticed before the sending
        // thread has reported that the end of this side's input was posted.
        // Acquire: pairs with the release store in `pump_input`.
        let may_have_ended = output_ended && !input_cut && posting_end.load(Ordering::Acquire);
        if let Some(reason) = gone.as_ref().filter(|_| !may_have_ended) {
            return Err(Failure::peer_gone(format_args!("the peer closed before both inputs had ended: {reason:#}")));
        }
    }
    Ok(())
}

/// Posts standard input until it ends, and returns the event of its end.
fn pump_input(send: &SendHalf, chunk: usize, posting_end: &AtomicBool) -> Event {
    let mut stdin = std::io::stdin().lock();
    let mut data = vec![0; chunk];
    loop {
        let len = match stdin.read(&mut data) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Event::Failed(Failure::refused(format_args!("cannot read standard input: {error}"))),
        };
        // The empty read at the end of the input results in the empty message that marks the end.
        // Release: pairs with the acquire load in `wait`.
        posting_end.store(len == 0, Ordering::Release);
        match send.post_message_wait(&data[..len], []).map_err(|error| error.kind) {
            Ok(()) if len == 0 => return Event::InputEnded,
            Ok(()) => {}
            Err(PostErrorKind::PeerGone(_)) => return Event::InputCut,
            Err(error) => return Event::Failed(Failure::failed(format_args!("cannot post: {error:#}"))),
        }
    }
}

/// Writes received messages to standard output until the peer has gone, and sends the events of this direction.
fn pump_output(recv: &RecvHalf, events: &Sender<Event>) {
    let mut message = Message::default();
    let mut stdout = std::io::stdout().lock();
    let end = loop {
        match recv.recv_into(&mut message) {
            Ok(()) if message.data.is_empty() => {
                // The reader of standard output sees its end although this side's input may continue.
                close_stdout();
                let _ = events.send(Event::OutputEnded);
            }
            Ok(()) => {
                if let Err(error) = stdout.write_all(&message.data).and_then(|()| stdout.flush()) {
                    break Event::Failed(Failure::refused(format_args!("cannot write to standard output: {error}")));
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
