//! The messages between the page and the iframe of the demo.

use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Asks the iframe to hash the messages of the port that this message carries.
pub(crate) const STREAM: &[u8] = b"stream";
/// Asks the iframe to hash the buffer that this message carries.
pub(crate) const BUFFER: &[u8] = b"buffer";
/// Asks the iframe to post this message back.
pub(crate) const ECHO: &[u8] = b"the echo";
/// Asks the iframe to transfer its port to a third process.
pub(crate) const HAND_ON: &[u8] = b"hand on";

/// The iframe's report of the bytes that it received.
pub(crate) struct Received {
    /// Their SHA-256 in hexadecimal.
    pub(crate) hex: String,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl std::fmt::Display for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.hex, self.bytes, self.messages)
    }
}

impl Received {
    /// Parses the text that `Display` produces.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let mut words = text.split(' ');
        let parsed = (|| {
            let hex = words.next()?.to_owned();
            let bytes = words.next()?.parse().ok()?;
            let messages = words.next()?.parse().ok()?;
            Some(Self { hex, bytes, messages })
        })();
        parsed.ok_or_else(|| Failure::failed(format_args!("the iframe's report is malformed: {text}")))
    }
}

/// Finishes a hash and returns it in hexadecimal.
pub(crate) fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
