//! The page of the demo. The processes it talks to are in `frames`.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use messageport::{ChannelOptions, MessageChannel, MessagePort, TransferBuffer, spawn_with_port};
use sha2::{Digest, Sha256};

use crate::failure::Failure;
use crate::frames::{self, Received, hex};
use crate::output::{Output, rate, size};

const GREETING: &str = "Hello from the main page!";
const QUESTION: &str = "Who is at the other end now?";

/// Bytes of the file in one message of the stream, and the capacity of the stream's queue.
const CHUNK: usize = 64 << 10;
const STREAM_CAPACITY: usize = 1 << 20;

/// From this size on, a terminal gets a progress bar.
const LARGE: u64 = 64 << 20;

pub(crate) fn run(file: Option<PathBuf>) -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(Failure::of("cannot find this executable"))?;
    let path = file.unwrap_or_else(|| this.clone());
    let mut source = Source::open(&path)?;
    let mut out = Output::default();

    let begin = Instant::now();
    let window = MessageChannel::new().map_err(Failure::of("cannot make a channel"))?;
    let child = spawn_with_port(Command::new(&this).arg("demo-iframe"), window.port2);
    let iframe = Iframe(child.map_err(Failure::of("cannot start the iframe process"))?);
    out.line(format!(
        "page (process {}) made a channel and started the iframe (process {}): {:.1?}",
        std::process::id(),
        iframe.0.id(),
        begin.elapsed()
    ))?;

    let port1 = greet(&window.port1, &mut out)?;
    let streamed = stream(&port1, &mut source, &mut out)?;
    let transferred = transfer(&port1, &mut source, streamed.bytes, &mut out)?;
    if transferred.hex != streamed.hex {
        return Err(Failure::failed(format_args!("{} changed while it was read", path.display())));
    }
    hand_on(&port1, &mut out)?;
    port1.close();
    iframe.wait()?;
    out.line([b"sha256 ", transferred.hex.as_bytes(), b" ", path.as_os_str().as_bytes()].concat())
}

/// The standard's example: a new channel, one end of it given to the iframe with a greeting, and the
/// iframe's answer over it.
fn greet(window: &MessagePort, out: &mut Output) -> Result<MessagePort, Failure> {
    let channel = MessageChannel::new().map_err(Failure::of("cannot make a channel"))?;
    let begin = Instant::now();
    window
        .post_message(GREETING.as_bytes(), [channel.port2.into()])
        .map_err(Failure::of("cannot post the greeting"))?;
    out.line(format!("page -> iframe: \"{GREETING}\", and port2"))?;
    let answer = answer(&channel.port1)?;
    out.line(format!("iframe -> page: {answer} ({:.1?} with the start of the process)", begin.elapsed()))?;
    Ok(channel.port1)
}

/// The file as messages over a port of its own, an empty one at the end. Never more of it is in memory
/// than the queue holds.
fn stream(port1: &MessagePort, source: &mut Source, out: &mut Output) -> Result<Received, Failure> {
    let options = ChannelOptions::new().capacity(STREAM_CAPACITY);
    let channel = options.create().map_err(Failure::of("cannot make the stream's channel"))?;
    port1
        .post_message(frames::STREAM, [channel.port2.into()])
        .map_err(Failure::of("cannot give the stream's port to the iframe"))?;
    let post = |data: &[u8]| {
        channel.port1.post_message_wait(data, [], None).map_err(Failure::of("cannot stream to the iframe"))
    };

    let begin = Instant::now();
    let sent = source.pass("stream", u64::MAX, |_, chunk| post(chunk))?;
    post(&[])?;
    let received = Received::parse(&answer(port1)?)?;
    let time = begin.elapsed();
    check(&sent, &received)?;
    out.line(format!(
        "stream: {} in {} message{}, hashed by both: {time:.1?}, {}",
        size(received.bytes),
        received.messages,
        if received.messages == 1 { "" } else { "s" },
        rate(received.bytes, time)
    ))?;
    Ok(received)
}

/// The same bytes as one buffer that is handed over.
fn transfer(port1: &MessagePort, source: &mut Source, len: u64, out: &mut Output) -> Result<Received, Failure> {
    let begin = Instant::now();
    let buffer = allocate(len)?;
    let sent = source.pass("buffer", len, |at, chunk| {
        buffer.write_at(at as usize, chunk).map_err(Failure::of("cannot fill the buffer"))
    })?;
    if sent.bytes != len {
        return Err(Failure::failed(format_args!("{} changed its size while it was read", source.path.display())));
    }
    let filled = begin.elapsed();

    let begin = Instant::now();
    port1.post_message(frames::BUFFER, [buffer.into()]).map_err(Failure::of("cannot transfer the buffer"))?;
    let posted = begin.elapsed();
    let received = Received::parse(&answer(port1)?)?;
    check(&sent, &received)?;
    out.line(format!(
        "buffer: {} filled and hashed in {filled:.1?}, posted in {posted:.1?}, {:.1?} until the iframe had hashed it",
        size(received.bytes),
        begin.elapsed()
    ))?;
    Ok(received)
}

/// The iframe passes its end on; a question that was posted before travels with the queue.
fn hand_on(port1: &MessagePort, out: &mut Output) -> Result<(), Failure> {
    let begin = Instant::now();
    for message in [frames::HAND_ON, QUESTION.as_bytes()] {
        port1.post_message(message, []).map_err(Failure::of("cannot post to the iframe"))?;
    }
    out.line(format!("page -> port2: \"{QUESTION}\", while the iframe hands port2 on to a third process"))?;
    let answer = answer(port1)?;
    out.line(format!("worker -> page: {answer} ({:.1?} with the start of the process)", begin.elapsed()))
}

fn answer(port1: &MessagePort) -> Result<String, Failure> {
    let message = port1.recv().map_err(Failure::of("the iframe gave no answer"))?;
    String::from_utf8(message.data).map_err(Failure::of("the iframe's answer is not text"))
}

fn check(sent: &Sent, received: &Received) -> Result<(), Failure> {
    if (sent.bytes, &sent.hex) == (received.bytes, &received.hex) {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "the iframe received other bytes than were sent: {} bytes with sha256 {}, not {} bytes with sha256 {}",
        received.bytes, received.hex, sent.bytes, sent.hex
    )))
}

/// A buffer of the file's size. Memory that is not there is refused here: where the kernel overcommits,
/// it would kill a process for it.
fn allocate(len: u64) -> Result<TransferBuffer, Failure> {
    let refuse =
        |why: &dyn std::fmt::Display| Failure::failed(format_args!("cannot allocate a buffer of {}: {why}", size(len)));
    if let Some(available) = available_memory().filter(|available| *available < len) {
        return Err(refuse(&format_args!("{} of memory are available", size(available))));
    }
    let len = usize::try_from(len).map_err(|error| refuse(&error))?;
    TransferBuffer::new(len).map_err(|error| refuse(&error))
}

fn available_memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The file that is moved.
struct Source {
    path: PathBuf,
    file: File,
    /// Its size when it was opened; 0 also where the system does not know it, as in `/proc`.
    len: u64,
}

/// What one pass over the file sent.
struct Sent {
    bytes: u64,
    hex: String,
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        let refuse =
            |why: &dyn std::fmt::Display| Failure::refused(format_args!("cannot read {}: {why}", path.display()));
        // Looked at before it is opened: opening a pipe would wait for its writer.
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

    /// Reads the file from its start, at most `limit` bytes and not what was appended since it was
    /// opened, and gives it piece by piece, each with its offset.
    fn pass(
        &mut self,
        name: &'static str,
        limit: u64,
        mut give: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
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
            give(bytes, &chunk[..len])?;
            bytes += len as u64;
            bar.set_position(bytes);
        }
        bar.finish_and_clear();
        Ok(Sent { bytes, hex: hex(sum) })
    }
}

/// Draws on standard error, and only if that is a terminal.
fn progress_bar(name: &'static str, len: u64) -> ProgressBar {
    if len < LARGE || len == u64::MAX {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
    ProgressBar::new(len).with_style(style).with_message(name)
}

/// The iframe's process; it does not outlive a page that fails.
struct Iframe(Child);

impl Iframe {
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
        // Its ports have closed or close with this process; a failure here leaves nothing to undo.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
