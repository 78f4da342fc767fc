//! `demo`: the page, which is the first process. The other two are in `frames`.

mod frames;
mod protocol;

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use messageport::{ChannelOptions, Message, MessageChannel, MessagePort, TransferBuffer, spawn_with_port};
use messageport_bench::available_memory;
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Line};
use crate::output::{Output, rate, size, time};

pub(crate) use frames::{iframe, worker};
use protocol::{Received, hex};

/// The page's first message to the iframe.
const GREETING: &str = "Hello from the main page!";
/// The page's message to the process that takes over the port.
const QUESTION: &str = "Who is at the other end now?";

/// Number of echoes, of which the median is shown.
const ECHOES: usize = 2000;

/// Size in bytes of a message of the stream.
const CHUNK: usize = 64 << 10;
/// Capacity in bytes of the stream's queue.
const STREAM_CAPACITY: usize = 1 << 20;

/// Size in bytes from which a file gets a progress bar on a terminal.
const LARGE: u64 = 64 << 20;

/// Runs the demo with `file`, or with this executable.
pub(crate) fn run(file: Option<PathBuf>) -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(Failure::of("cannot find this executable"))?;
    let path = file.unwrap_or_else(|| this.clone());
    let mut input = InputFile::open(&path)?;
    let mut out = Output::default();

    out.line("Three processes play a page, its iframe and a worker. They exchange messages, a file and a port.")?;
    out.line(format!("The file is {}.", Line(&path.to_string_lossy())))?;

    let (iframe, port1) = greet(&this, &mut out)?;
    echo(&port1, &mut out)?;
    let streamed = stream(&port1, &mut input, &mut out)?;
    let transferred = transfer(&port1, &mut input, streamed.bytes, &mut out)?;
    if transferred.hex != streamed.hex {
        return Err(Failure::failed(format_args!("{} changed while it was read", path.display())));
    }
    hand_on(&port1, &mut out)?;
    port1.close();
    iframe.wait()?;
    out.line("")?;
    out.line("All three processes have ended. What the iframe received is the file, by its SHA-256:")?;
    out.line(format!("sha256 {} {}", transferred.hex, Line(&path.to_string_lossy())))
}

/// Starts the iframe and runs the example of the standard with it: creates a channel, transfers one of its ports with
/// a greeting, and receives the answer on the other port, which it returns.
fn greet(this: &Path, out: &mut Output) -> Result<(Iframe, MessagePort), Failure> {
    let begin = Instant::now();
    let window = MessageChannel::new().map_err(Failure::of("cannot create a channel"))?;
    let child = spawn_with_port(Command::new(this).arg("demo-iframe"), window.port2);
    let iframe = Iframe(child.map_err(Failure::of("cannot start the iframe process"))?);
    let channel = MessageChannel::new().map_err(Failure::of("cannot create a channel"))?;
    let greeting = window.port1.post_message(GREETING.as_bytes(), [channel.port2.into()]);
    greeting.map_err(Failure::of("cannot post the greeting"))?;
    let answer = recv_answer(&channel.port1)?;
    let taken = begin.elapsed();
    let (page, frame) = (std::process::id(), iframe.0.id());
    out.line("")?;
    out.line(format!("1. The page, process {page}, starts the iframe, process {frame}, and greets it."))?;
    out.line(format!("     page -> iframe: \"{GREETING}\" and port2"))?;
    out.line(format!("     iframe -> page: {answer}"))?;
    out.line(format!("   From before the start of the process to its answer: {}.", time(taken)))?;
    out.line("   It shows: a port reaches another process in a message, and works there.")?;
    Ok((iframe, channel.port1))
}

/// Sends small messages to the iframe, which sends each of them back.
fn echo(port1: &MessagePort, out: &mut Output) -> Result<(), Failure> {
    let mut message = Message::new();
    let mut times = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let begin = Instant::now();
        port1.post_message(protocol::ECHO, []).map_err(Failure::of("cannot post to the iframe"))?;
        port1.recv_into(&mut message).map_err(Failure::of("the iframe sent no answer"))?;
        times.push(begin.elapsed());
        if message.data != protocol::ECHO {
            return Err(Failure::failed("the echo differs from the message"));
        }
    }
    times.sort_unstable();
    let median: Duration = times[ECHOES / 2];
    out.line("")?;
    out.line(format!("2. The page sends a message of {} bytes, and the iframe sends it back.", protocol::ECHO.len()))?;
    out.line(format!("   There and back: {}, the median of {ECHOES}.", time(median)))?;
    out.line("   It shows: the processes share memory, so a message needs no system call unless its receiver sleeps.")
}

/// Sends the file as messages over a port of its own, with an empty message at the end. The queue bounds the part of
/// the file that is in memory.
fn stream(port1: &MessagePort, input: &mut InputFile, out: &mut Output) -> Result<Received, Failure> {
    let options = ChannelOptions::new().capacity(STREAM_CAPACITY);
    let channel = options.create().map_err(Failure::of("cannot create the stream's channel"))?;
    port1
        .post_message(protocol::STREAM, [channel.port2.into()])
        .map_err(Failure::of("cannot transfer the stream's port to the iframe"))?;
    let post =
        |data: &[u8]| channel.port1.post_message_wait(data, []).map_err(Failure::of("cannot stream to the iframe"));

    let begin = Instant::now();
    let sent = input.read_through("stream", u64::MAX, |_, chunk| post(chunk))?;
    post(&[])?;
    let received = Received::parse(&recv_answer(port1)?)?;
    let taken = begin.elapsed();
    check(&sent, &received)?;
    let plural = if received.messages == 1 { "" } else { "s" };
    out.line("")?;
    out.line(format!(
        "3. The page reads the file and sends it to the iframe in {} message{plural}.",
        received.messages
    ))?;
    out.line(format!(
        "   Read, sent, and hashed by both: {} in {}, {}.",
        size(received.bytes),
        time(taken),
        rate(received.bytes, taken)
    ))?;
    out.line(format!(
        "   It shows: a full queue lets the page wait, so at most {} waits in it, however large the file is.",
        size(STREAM_CAPACITY as u64)
    ))?;
    Ok(received)
}

/// Sends the file as one transferred buffer.
fn transfer(port1: &MessagePort, input: &mut InputFile, len: u64, out: &mut Output) -> Result<Received, Failure> {
    let begin = Instant::now();
    let buffer = allocate(len)?;
    let sent = input.read_through("buffer", len, |at, chunk| {
        buffer.write_at(at as usize, chunk).map_err(Failure::of("cannot fill the buffer"))
    })?;
    if sent.bytes != len {
        return Err(Failure::failed(format_args!("the size of {} changed while it was read", input.path.display())));
    }
    let filled = begin.elapsed();

    let begin = Instant::now();
    port1.post_message(protocol::BUFFER, [buffer.into()]).map_err(Failure::of("cannot transfer the buffer"))?;
    let posted = begin.elapsed();
    let received = Received::parse(&recv_answer(port1)?)?;
    let hashed = begin.elapsed();
    check(&sent, &received)?;
    out.line("")?;
    out.line(format!("4. The page reads the file into a buffer of {} and transfers that.", size(received.bytes)))?;
    out.line(format!(
        "   Read and hashed by the page: {}. From the post to the hash of the iframe: {}, of which the post took {}.",
        time(filled),
        time(hashed),
        time(posted)
    ))?;
    out.line(
        "   It shows: the buffer moves without a copy, so a post takes as long for a large buffer as for a small one.",
    )?;
    Ok(received)
}

/// Asks the iframe to transfer its port to the worker. The question is posted before the transfer, so it travels in the
/// port's queue.
fn hand_on(port1: &MessagePort, out: &mut Output) -> Result<(), Failure> {
    let begin = Instant::now();
    for message in [protocol::HAND_ON, QUESTION.as_bytes()] {
        port1.post_message(message, []).map_err(Failure::of("cannot post to the iframe"))?;
    }
    let answer = recv_answer(port1)?;
    let taken = begin.elapsed();
    out.line("")?;
    out.line(
        "5. The page asks a question. The iframe leaves it unread and transfers port2 to a worker that it starts.",
    )?;
    out.line(format!("     page -> port2: \"{QUESTION}\""))?;
    out.line(format!("     worker -> page: {answer}"))?;
    out.line(format!("   From the question, before the start of the worker, to its answer: {}.", time(taken)))?;
    out.line("   It shows: a port keeps its messages when it moves, and the page's port keeps working.")
}

/// Receives the answer of the process at the other end.
fn recv_answer(port1: &MessagePort) -> Result<String, Failure> {
    let message = port1.recv().map_err(Failure::of("the iframe sent no answer"))?;
    String::from_utf8(message.data).map_err(Failure::of("the iframe's answer is not text"))
}

/// Fails if the iframe received other bytes than were sent.
fn check(sent: &Sent, received: &Received) -> Result<(), Failure> {
    if (sent.bytes, &sent.hex) == (received.bytes, &received.hex) {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "the iframe received {} bytes with sha256 {}, but {} bytes with sha256 {} were sent",
        received.bytes, received.hex, sent.bytes, sent.hex
    )))
}

/// Allocates a buffer of the file's size. Fails if less memory is available, because a kernel that overcommits would
/// otherwise kill a process later.
fn allocate(len: u64) -> Result<TransferBuffer, Failure> {
    let refuse =
        |why: &dyn std::fmt::Display| Failure::failed(format_args!("cannot allocate a buffer of {}: {why}", size(len)));
    if let Some(available) = available_memory().filter(|available| *available < len) {
        return Err(refuse(&format_args!("only {} of memory is available", size(available))));
    }
    let len = usize::try_from(len).map_err(|error| refuse(&error))?;
    TransferBuffer::new(len).map_err(|error| refuse(&error))
}

/// The file to send.
struct InputFile {
    path: PathBuf,
    file: File,
    /// The size of the file in bytes when it was opened; 0 also for files of unknown size, for example in `/proc`.
    len: u64,
}

/// The bytes that were sent, as the page counted and hashed them.
struct Sent {
    bytes: u64,
    hex: String,
}

impl InputFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        let refuse =
            |why: &dyn std::fmt::Display| Failure::refused(format_args!("cannot read {}: {why}", path.display()));
        // The type is checked first, because opening a named pipe would block until it has a writer.
        let metadata = std::fs::metadata(path).map_err(|error| refuse(&error))?;
        if metadata.is_dir() {
            return Err(refuse(&"it is a directory"));
        }
        if !metadata.is_file() {
            return Err(refuse(&"it is not a regular file"));
        }
        let file = File::open(path).map_err(|error| refuse(&error))?;
        Ok(Self { path: path.to_owned(), file, len: metadata.len() })
    }

    /// Reads the file from its start in chunks and calls `send` with the offset and the contents of each. Stops after
    /// `limit` bytes, and before bytes that were appended after the file was opened.
    fn read_through(
        &mut self,
        name: &'static str,
        limit: u64,
        mut send: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
    ) -> Result<Sent, Failure> {
        let refuse = |error| Failure::refused(format_args!("cannot read {}: {error}", self.path.display()));
        let limit = if self.len == 0 { limit } else { limit.min(self.len) };
        let bar = progress_bar(name, limit);
        self.file.rewind().map_err(refuse)?;
        let mut reader = (&self.file).take(limit);
        let mut chunk = vec![0; CHUNK];
        let mut sum = Sha256::new();
        let mut bytes = 0;
        loop {
            let len = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(refuse(error)),
            };
            sum.update(&chunk[..len]);
            send(bytes, &chunk[..len])?;
            bytes += len as u64;
            bar.set_position(bytes);
        }
        bar.finish_and_clear();
        Ok(Sent { bytes, hex: hex(sum) })
    }
}

/// Returns a progress bar on standard error for a large file, and a hidden one otherwise. It draws only on a terminal.
fn progress_bar(name: &'static str, len: u64) -> ProgressBar {
    if len < LARGE || len == u64::MAX {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    ProgressBar::new(len).with_style(style).with_message(name)
}

/// The process of the iframe, which is killed if the page fails.
struct Iframe(Child);

impl Iframe {
    /// Waits for the process to succeed.
    fn wait(mut self) -> Result<(), Failure> {
        let status = self.0.wait().map_err(Failure::of("cannot wait for the iframe process"))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::failed(format_args!("the iframe process failed: {status}")))
        }
    }
}

impl Drop for Iframe {
    fn drop(&mut self) {
        // A failure to kill it is harmless: its ports close with this process, which ends it.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
