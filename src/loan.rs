//! Loans: what is inside a value that is being posted, for as long as it is not certain that the post succeeds.
//!
//! While a value is encoded there are only shared references to the ports and buffers in it, which may be gone when the
//! encoding is complete. So the post borrows none of them. It takes a second handle of each, an owned one, and marks the
//! first, which can do nothing from then on. If the post succeeds the first handle is detached; in any other case, a
//! panic too, the mark is removed and the first handle is as it was before.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::buffer::{Hold, TransferBuffer};
use crate::end::End;
use crate::error::PostErrorKind;
use crate::port::MessagePort;
use crate::sys::memfd::FileId;
use crate::transfer::TransferRef;

/// The transfer list of a value, in the order in which its parts were encoded.
pub(crate) struct Loans {
    carrier: Carrier,
    list: Vec<Loan>,
    ports: u32,
    buffers: u32,
    refused: Option<Refused>,
}

/// The port over which the value is posted.
#[derive(Clone, Copy)]
struct Carrier {
    /// The address of its end.
    end: usize,
    /// Its channel.
    channel: FileId,
}

/// Why something cannot be lent, in the order in which it is told (SEMANTICS rule S10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    ContainsSelf,
    ContainsPeer,
    Duplicate,
    Unusable { index: usize },
}

/// One thing: the handle that will be transferred, and what marks the one in the value.
enum Loan {
    Port { port: MessagePort, lender: Arc<End> },
    Buffer { buffer: TransferBuffer, lender: Arc<Hold> },
}

impl Loans {
    /// Nothing yet, for a post on `carrier`.
    pub(crate) fn new(carrier: &Arc<End>) -> Self {
        let carrier = Carrier { end: Arc::as_ptr(carrier).addr(), channel: carrier.segment().id() };
        Self { carrier, list: Vec::new(), ports: 0, buffers: 0, refused: None }
    }

    /// Borrows a port. Returns its place among the ports of the message. What cannot be lent makes the post fail, but
    /// later: another part of the value may be a weightier reason.
    pub(crate) fn port(&mut self, port: &MessagePort) -> u32 {
        let end = port.end();
        if Arc::as_ptr(end).addr() == self.carrier.end {
            self.refuse(Refused::ContainsSelf);
        } else if end.segment().id() == self.carrier.channel {
            self.refuse(Refused::ContainsPeer);
        } else if self.list.iter().any(|loan| matches!(loan, Loan::Port { lender, .. } if Arc::ptr_eq(lender, end))) {
            self.refuse(Refused::Duplicate);
        } else if let Some(lent) = port.lend() {
            self.list.push(Loan::Port { port: lent, lender: Arc::clone(end) });
            self.ports += 1;
            return self.ports - 1;
        } else {
            self.refuse(Refused::Unusable { index: self.list.len() });
        }
        0
    }

    /// Borrows a buffer; as [`port`](Self::port).
    pub(crate) fn buffer(&mut self, buffer: &TransferBuffer) -> u32 {
        let Some((lent, hold)) = buffer.lend() else {
            self.refuse(Refused::Unusable { index: self.list.len() });
            return 0;
        };
        if self.list.iter().any(|loan| matches!(loan, Loan::Buffer { lender, .. } if Arc::ptr_eq(lender, &hold))) {
            self.refuse(Refused::Duplicate);
            return 0;
        }
        self.list.push(Loan::Buffer { buffer: lent, lender: hold });
        self.buffers += 1;
        self.buffers - 1
    }

    fn refuse(&mut self, why: Refused) {
        self.refused = Some(self.refused.map_or(why, |before| before.min(why)));
    }

    /// Has `post` transfer the things, and keeps the books: afterwards they are detached, or back where they were.
    #[inline]
    pub(crate) fn post<T>(
        self,
        post: impl FnOnce(&[TransferRef<'_>]) -> Result<T, PostErrorKind>,
    ) -> Result<T, PostErrorKind> {
        self.check()?;
        if self.list.is_empty() {
            return post(&[]);
        }
        let list: Vec<TransferRef<'_>> = self.list.iter().map(TransferRef::from).collect();
        let posted = post(&list)?;
        self.list.iter().for_each(Loan::complete);
        Ok(posted)
    }

    #[inline]
    fn check(&self) -> Result<(), PostErrorKind> {
        match self.refused {
            None => {}
            Some(Refused::ContainsSelf) => return Err(PostErrorKind::ContainsSelf),
            Some(Refused::ContainsPeer) => return Err(PostErrorKind::ContainsPeer),
            Some(Refused::Duplicate) => return Err(PostErrorKind::Duplicate),
            Some(Refused::Unusable { index }) => return Err(PostErrorKind::Unusable { index }),
        }
        match self.list.iter().position(Loan::is_recalled) {
            None => Ok(()),
            Some(index) => Err(PostErrorKind::Unusable { index }),
        }
    }
}

impl Loan {
    /// Its handle was closed or dropped while the value was encoded: a value must keep what it lends, or a failed post
    /// could not give it back.
    fn is_recalled(&self) -> bool {
        match self {
            Self::Port { lender, .. } => lender.is_recalled(),
            // Besides the two handles here there is the one in the value.
            Self::Buffer { lender, .. } => Arc::strong_count(lender) < 3,
        }
    }

    /// The post has succeeded.
    fn complete(&self) {
        match self {
            Self::Port { port, lender } => {
                lender.detach();
                port.end().detach();
                port.end().let_go_of_lane();
            }
            Self::Buffer { lender, .. } => lender.set_gone(),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Self::Port { port, lender } = self
            && lender.unlend()
        {
            // Given back: the second handle must not close the port.
            port.end().disown();
        }
    }
}

impl<'a> From<&'a Loan> for TransferRef<'a> {
    fn from(loan: &'a Loan) -> Self {
        match loan {
            Loan::Port { port, .. } => Self::Port(port),
            Loan::Buffer { buffer, .. } => Self::Buffer(buffer),
        }
    }
}
