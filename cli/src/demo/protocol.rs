//! What the page and the iframe of the demo agree on.

use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// What the page asks for: "a stream follows on this port", "hash this buffer", "hand your port on".
pub(crate) const STREAM: &[u8] = b"stream";
pub(crate) const BUFFER: &[u8] = b"buffer";
pub(crate) const HAND_ON: &[u8] = b"hand on";

/// What the iframe received, as it reports it to the page.
pub(crate) struct Received {
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

pub(crate) fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
