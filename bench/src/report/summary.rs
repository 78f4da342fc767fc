//! The summary at the top of the report: what the figures say, in sentences.

use crate::figure::Figure;

use super::axis::{Unit, digits};
use super::palette::OURS;

/// Largest number of sentences.
const SENTENCES: usize = 5;

/// Returns the sentences for which there are figures, the most important first.
pub(crate) fn summary(figures: &[Figure]) -> Vec<String> {
    let all = All(figures);
    let sentences = [
        all.trip(),
        all.sleeping_trip(),
        all.small_messages(),
        all.stream_by_default(),
        all.buffer(),
        all.port(),
        all.pair(),
        all.memory(),
        all.calls(),
    ];
    sentences.into_iter().flatten().take(SENTENCES).collect()
}

struct All<'a>(&'a [Figure]);

impl<'a> All<'a> {
    fn of(&self, bench: &str, label: &str) -> impl DoubleEndedIterator<Item = &'a Figure> {
        let (bench, label) = (bench.to_owned(), label.to_owned());
        self.0.iter().filter(move |figure| figure.bench == bench && figure.label() == label)
    }

    /// Returns the figure of another subject with the same size.
    fn beside(&self, figure: &Figure, label: &str) -> Option<&'a Figure> {
        self.of(&figure.bench, label).find(|other| other.size == figure.size)
    }

    fn trip(&self) -> Option<String> {
        let ours = self.of("rtt", "messageport recv_into spin").next()?;
        let socket = self.beside(ours, "unix seqpacket block")?;
        let (size, time) = (bytes(ours), mean(ours)?);
        Some(format!(
            "{size} there and back: {time}, {} a socket ({}){}",
            compared(ours.mean_ns?, socket.mean_ns?),
            mean(socket)?,
            end(&[ours, socket])
        ))
    }

    fn sleeping_trip(&self) -> Option<String> {
        let ours = self.of("rtt", "messageport recv_into block").next()?;
        let futex = self.beside(ours, "futex block")?;
        Some(format!(
            "{} there and back, with both sides asleep before each message: {}, {} x the time of bare futexes{}",
            bytes(ours),
            mean(ours)?,
            digits(ours.ratio?),
            end(&[ours, futex])
        ))
    }

    fn small_messages(&self) -> Option<String> {
        let ours = self.of("throughput", "messageport recv_into spin").next()?;
        let socket = self.beside(ours, "unix seqpacket block")?;
        Some(format!(
            "Messages of {} in a stream: {} million a second, {} a socket{}",
            bytes(ours),
            digits(ours.msgs_per_s? / 1e6),
            compared(ours.mean_ns?, socket.mean_ns?),
            end(&[ours, socket])
        ))
    }

    fn stream_by_default(&self) -> Option<String> {
        let ours = self.of("stream", "messageport recv_into default").next_back()?;
        let pipe = self.beside(ours, "pipe block")?;
        Some(format!(
            "Messages of {} in a stream, with default options: {}, {} a pipe{}",
            bytes(ours),
            Unit::BytesPerSecond.text(ours.bytes_per_s?),
            compared(ours.mean_ns?, pipe.mean_ns?),
            end(&[ours, pipe])
        ))
    }

    fn buffer(&self) -> Option<String> {
        let ours = self.of("buffers", "messageport pass spin").next_back()?;
        let message = self.of("buffers", "message 64 B spin").find(|other| other.size == ours.size)?;
        Some(format!(
            "A buffer of {}, passed there and back without a copy: {}, {} x the time of a message of 64 B{}",
            bytes(ours),
            mean(ours)?,
            digits(ours.ratio?),
            end(&[ours, message])
        ))
    }

    fn port(&self) -> Option<String> {
        let ours = self.of("transfer", "messageport spin").chain(self.of("transfer", "messageport block")).next()?;
        Some(format!(
            "A port, transferred there and back over another: {}, {} x the time of the bare system calls{}",
            mean(ours)?,
            digits(ours.ratio?),
            end(&[ours])
        ))
    }

    fn pair(&self) -> Option<String> {
        let ours = self.of("create", OURS).next()?;
        Some(format!(
            "A pair of ports, created and dropped: {}, {} x the time of the bare system calls{}",
            mean(ours)?,
            digits(ours.ratio?),
            end(&[ours])
        ))
    }

    fn memory(&self) -> Option<String> {
        let ours = self.0.iter().find(|figure| figure.bench == "memory" && figure.call == "new pair")?;
        Some(format!("A new pair of ports takes {} of memory.", Unit::Bytes.text(ours.resident_bytes? as f64)))
    }

    fn calls(&self) -> Option<String> {
        let ours = self.0.iter().find(|figure| figure.bench == "calls" && figure.call == "ping recv_into")?;
        let (calls, allocations) = (ours.syscalls?, ours.allocations?);
        Some(format!("A round trip of a message makes {calls:.2} system calls and {allocations:.2} allocations."))
    }
}

/// Returns the size of the messages in words: `8 bytes`, `1 KiB`.
fn bytes(figure: &Figure) -> String {
    if figure.size < 1024 { format!("{} bytes", figure.size) } else { Unit::Bytes.text(figure.size as f64) }
}

fn mean(figure: &Figure) -> Option<String> {
    figure.mean_ns.map(|ns| Unit::Nanoseconds.text(ns))
}

/// Returns how two times compare, before the name of what takes the second.
fn compared(ours: f64, theirs: f64) -> String {
    match theirs / ours {
        ratio if ratio >= 1.05 => format!("{} x faster than", digits(ratio)),
        ratio if ratio > 0.95 => "as fast as".to_owned(),
        ratio => format!("{} x slower than", digits(1.0 / ratio)),
    }
}

/// Returns the end of a sentence about these figures, with what makes them unreliable.
fn end(figures: &[&Figure]) -> String {
    match figures.iter().find_map(|figure| figure.doubt()) {
        Some(doubt) => format!(" ({doubt})."),
        None => ".".to_owned(),
    }
}
