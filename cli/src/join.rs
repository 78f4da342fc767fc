//! `listen` and `connect`: standard input and output of two processes joined through a port pair.
//!
//! Each side posts what it reads; an empty message is the end of its input. One thread reads and posts,
//! one receives and writes, and this one waits for both: only it decides how the process ends, so that a
//! read that waits for a terminal keeps nobody alive.

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
    // Said on standard error, for people and for scripts that start the other side.
    let _ = writeln!(std::io::stderr(), "listening at {}", listener.path().display());
    let incoming = listener.accept().map_err(|error| refuse(&error))?;
    drop(listener);
    join(incoming.port)
}

pub(crate) fn connect(name: &str) -> Result<(), Failure> {
    let port = messageport::connect(name, b"");
    join(port.map_err(|error| Failure::refused(format_args!("cannot connect to {name}: {error:#}")))?)
}

enum Event {
    /// The end of our input is posted.
    InputEnded,
    /// Our input has nobody left to go to.
    InputCut,
    /// The end of the peer's input is received, and all before it written.
    OutputEnded,
    /// All that the peer posted is received, and no more will come.
    Gone(CloseReason),
    Failed(Failure),
}

fn join(port: MessagePort) -> Result<(), Failure> {
    let chunk = port.max_inline_len();
    let (send, recv) = port.split();
    let (events, inbox) = channel();
    let posting_end = Arc::new(AtomicBool::new(false));
    let (sender, mark) = (events.clone(), posting_end.clone());
    thread::spawn(move || drop(sender.send(pump_input(&send, chunk, &mark))));
    thread::spawn(move || pump_output(&recv, &events));
    wait(&inbox, &posting_end)
}

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
        // A peer that has both ends leaves at once, perhaps before our thread can say that the end which
        // the peer has seen is posted.
        let may_have_ended = output_ended && !input_cut && posting_end.load(Ordering::Acquire);
        if let Some(reason) = gone.as_ref().filter(|_| !may_have_ended) {
            return Err(Failure::peer_gone(format_args!("the peer was gone before both inputs had ended: {reason:#}")));
        }
    }
    Ok(())
}

fn pump_input(send: &SendHalf, chunk: usize, posting_end: &AtomicBool) -> Event {
    let mut stdin = std::io::stdin().lock();
    let mut data = vec![0; chunk];
    loop {
        let len = match stdin.read(&mut data) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Event::Failed(Failure::refused(format_args!("cannot read standard input: {error}"))),
        };
        // The empty read at the end of the input becomes the empty message that marks it.
        posting_end.store(len == 0, Ordering::Release);
        match send.post_message_wait(&data[..len], [], None).map_err(|error| error.kind) {
            Ok(()) if len == 0 => return Event::InputEnded,
            Ok(()) => {}
            Err(PostErrorKind::PeerGone(_)) => return Event::InputCut,
            Err(error) => return Event::Failed(Failure::failed(format_args!("cannot post: {error:#}"))),
        }
    }
}

fn pump_output(recv: &RecvHalf, events: &Sender<Event>) {
    let mut message = Message::default();
    let mut stdout = std::io::stdout().lock();
    let end = loop {
        match recv.recv_into(&mut message) {
            Ok(()) if message.data.is_empty() => {
                // Whoever reads our output learns that it ended, though our own input may go on.
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

fn close_stdout() {
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}
