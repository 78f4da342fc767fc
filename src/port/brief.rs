//! The fast paths alone, for the C library: it tries them first, and makes the call whose general case may make any
//! system call only where they fail. A fast path has no cancellation point; see `sys/cancel.rs`.
#![forbid(unsafe_code)]

use super::MessagePort;
use super::in_place::MessageRef;
use super::message::Message;
use super::reserve::Reservation;
use crate::queue::record::RecordKind;

impl MessagePort {
    /// Posts plain data, if nothing prevents the fast path. False: nothing has happened.
    #[doc(hidden)]
    #[inline]
    pub fn post_briefly(&self, data: &[u8]) -> bool {
        self.sender.try_post_inline(data)
    }

    /// Receives plain data into `message`, which holds no ports, buffers or descriptors; if it is there, or comes
    /// within half a microsecond if `waits`. False: nothing has happened.
    #[doc(hidden)]
    #[inline]
    pub fn recv_briefly(&self, message: &mut Message, waits: bool) -> bool {
        let Some((mut receiving, record)) = self.receiver.try_next(waits) else { return false };
        if record.kind != RecordKind::Data || message.has_transferred() || record.len > message.data.capacity() {
            receiving.leave();
            return false;
        }
        message.data.clear();
        receiving.consumer.read_to_vec(record, &mut message.data);
        self.receiver.release(&mut receiving, record);
        true
    }

    /// As [`recv_briefly`](Self::recv_briefly), in place.
    #[doc(hidden)]
    #[inline]
    pub fn recv_ref_briefly(&self, waits: bool) -> Option<MessageRef<'_>> {
        self.receiver.try_refer(waits)
    }

    /// Reserves room in the ring, if nothing prevents the fast path.
    #[doc(hidden)]
    #[inline]
    pub fn reserve_briefly(&self, len: usize) -> Option<Reservation<'_>> {
        self.sender.try_reserve(len)
    }
}
