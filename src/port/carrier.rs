//! Posting what plain data in the ring cannot hold: transfer lists, and data that does not fit. And the recycled
//! buffers of such posts.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::baggage::{Baggage, LoneBuffer};
use super::post::{IfFull, Need, Peer};
use super::transfer::TransferRef;
use super::{MessagePort, SendHalf};
use crate::buffer::TransferBuffer;
use crate::buffer::memory::{Hold, Memory, Role};
use crate::buffer::pool::Planned;
use crate::capsule::buffer::LoneCapsule;
use crate::end::State;
use crate::error::{BufferError, PostDataError, PostErrorKind, exhausted};
use crate::queue::backlog::Outside;
use crate::queue::record::{FORGET_LEN, RecordKind};
use crate::queue::ring::{Claim, Producer};
use crate::sys::{Errno, PAGE};

impl MessagePort {
    /// A buffer of `len` bytes, to be filled and posted on this port: a recycled one if one came back, else a new one.
    ///
    /// A buffer that was posted on this port before and came back costs no system call and no page fault, and posting
    /// it again costs the same whatever its size, since the peer has kept its mapping. A buffer comes back when the
    /// peer drops it, or posts it back over this channel. Its bytes are what either side last wrote to it; a new buffer
    /// is all zero.
    ///
    /// Both sides keep the buffers that were posted here, as many as [`ChannelOptions`](crate::ChannelOptions) allow; a
    /// [`TransferBuffer::new`] that is posted joins them. A buffer that either side posts on another port is given up
    /// here: its memory moves, no byte is copied, and it is not recycled again. The peer then lets go of its mapping
    /// when it receives, at the latest a second and 64 posts of buffers later, or after
    /// [`release_buffers`](Self::release_buffers). It is a former holder of the buffer, as described at
    /// [`TransferBuffer`]; where it is not trusted with what is posted elsewhere, fill a
    /// [new](TransferBuffer::new) buffer for that.
    ///
    /// ```
    /// # use messageport::MessageChannel;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// for frame in 0..1000_u32 {
    ///     let buffer = port1.buffer(1920 * 1080 * 4)?; // the first is new, the others are that one
    ///     buffer.write_value(0, &frame)?;
    ///     port1.post_message(b"frame", [buffer.into()])?;
    ///     assert_eq!(port2.recv()?.buffers[0].read_value::<u32>(0)?, frame);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`BufferError::ResourceExhausted`], as for [`TransferBuffer::new`].
    #[inline]
    pub fn buffer(&self, len: usize) -> Result<TransferBuffer, BufferError> {
        self.sender.buffer(len)
    }

    /// Frees the recycled buffers of this port that are not in use. Returns how many were freed: fewer than there are
    /// if the queue is full. Buffers that have not been used for a second are also freed when other buffers are posted.
    ///
    /// # Errors
    /// The port cannot be used, or its peer is gone.
    pub fn release_buffers(&self) -> Result<usize, PostDataError> {
        self.sender.release_buffers()
    }
}

impl SendHalf {
    /// See [`MessagePort::buffer`].
    #[inline]
    pub fn buffer(&self, len: usize) -> Result<TransferBuffer, BufferError> {
        match self.recycled(len) {
            Some(memory) => Ok(TransferBuffer::from_hold(Hold::new(memory, len, Role::Owner))),
            None => self.new_buffer(len),
        }
    }

    fn recycled(&self, len: usize) -> Option<Arc<Memory>> {
        let usable = self.end.home().is_here() && self.end.state() == State::Open;
        if usable { self.end.buffers().pool().take(len, &[]) } else { None }
    }

    #[cold]
    fn new_buffer(&self, len: usize) -> Result<TransferBuffer, BufferError> {
        match self.new_hold(len) {
            Ok(hold) => Ok(TransferBuffer::from_hold(hold)),
            Err(errno) => Err(BufferError::ResourceExhausted(exhausted(errno))),
        }
    }

    /// See [`MessagePort::release_buffers`].
    pub fn release_buffers(&self) -> Result<usize, PostDataError> {
        let _posting = self.end.posting();
        let mut producer = self.usable_producer()?;
        match self.find_peer()? {
            Peer::Receives => Ok(self.forget_idle(&mut producer, true)),
            Peer::Discards => Ok(0),
        }
    }

    /// Posts data and a buffer that the peer keeps already. `None` if they cannot go into the ring as they are; then
    /// nothing has happened.
    #[inline]
    pub(super) fn post_lone_buffer(&self, producer: &mut Producer, data: &[u8], buffer: &TransferBuffer) -> Option<()> {
        let lone = LoneBuffer::find(buffer, &self.end)?;
        let capsule = lone.encode(data.len())?;
        let len = LoneCapsule::payload_len(data.len());
        let claim = producer.try_claim(len)?;
        // From here on nothing can fail.
        producer.write(claim, 0, data);
        producer.write(claim, len - capsule.len(), &capsule);
        let look_for_idle = lone.note_posted(&self.end);
        let outside = Outside { bodies: 0, buffers: lone.bytes() };
        self.finish_post(producer, claim, len, RecordKind::Buffer, 0);
        producer.note_outside(outside);
        lone.detach();
        if look_for_idle {
            self.forget_idle(producer, false);
        }
        Some(())
    }

    /// Posts a message with a transfer list, or with data that does not fit the ring.
    pub(super) fn post_carrier(
        &self,
        producer: &mut Producer,
        data: &[u8],
        list: &[TransferRef<'_>],
        if_full: IfFull,
    ) -> Result<(), PostErrorKind> {
        let mut baggage = Baggage::check(list, Some(&self.end))?;
        let max = self.end.segment().limits().max_handles;
        let check_handles = |handles| match handles {
            handles if handles > max => Err(PostErrorKind::TooManyHandles { handles, max }),
            _ => Ok(()),
        };
        check_handles(baggage.handles())?;
        self.check_len(data.len())?;
        // A channel without descriptors has no buffer for the data: it must fit the ring.
        if max > 0 && baggage.payload_len(data.len()) > self.longest_in_ring() {
            check_handles(baggage.handles() + 1)?;
            self.send_carrier(producer, Data::ToBuffer(data), baggage, if_full)?;
        } else {
            // A poster that waits for room waits for that of the lane too.
            if if_full == IfFull::Grow {
                baggage.copy_small(data.len(), self.max_inline_len());
            }
            self.send_carrier(producer, Data::InRing(data), baggage, if_full)?;
        }
        Ok(())
    }

    /// Posts data that does not fit any ring. Its length has been checked.
    #[cold]
    pub(super) fn post_large(
        &self,
        producer: &mut Producer,
        data: &[u8],
        if_full: IfFull,
    ) -> Result<(), PostDataError> {
        self.send_carrier(producer, Data::ToBuffer(data), Baggage::default(), if_full)
    }

    /// Posts data that a reservation has written to a buffer.
    #[cold]
    pub(super) fn post_body(&self, producer: &mut Producer, body: Hold) -> Result<(), PostDataError> {
        self.send_carrier(producer, Data::InBuffer(body), Baggage::default(), IfFull::Grow)
    }

    /// Posts a checked list, and data. What fails does so before the commit, and is undone by being dropped.
    fn send_carrier(
        &self,
        producer: &mut Producer,
        data: Data<'_>,
        mut baggage: Baggage<'_>,
        if_full: IfFull,
    ) -> Result<(), PostDataError> {
        let in_ring = if let Data::InRing(data) = data { Some(data) } else { None };
        let (data_len, body) = match &data {
            Data::InRing(data) => (data.len(), None),
            Data::ToBuffer(data) => (0, Some(data.len())),
            Data::InBuffer(hold) => (0, Some(hold.len)),
        };
        if body.is_some() {
            baggage.expect_body();
        }
        let (len, max) = (baggage.payload_len(data_len), self.longest_in_ring());
        if len > max {
            return Err(PostDataError::TooLarge { len, max });
        }
        // 1. Find the receiver, and room.
        if self.find_peer()? == Peer::Discards {
            baggage.discard();
            return Ok(());
        }
        let claim = self.find_room(producer, Need { len, body }, if_full)?;
        // 2. Write data and table.
        match data {
            Data::InRing(data) => producer.write(claim, 0, data),
            Data::ToBuffer(data) => baggage.set_body(self.filled(data, baggage.planned())?, &self.end),
            Data::InBuffer(body) => baggage.set_body(body, &self.end),
        }
        baggage.write_table(data_len, table_writer(producer, claim, data_len));
        // 3. Send the descriptors before the commit, so that a receiver that sees the record finds them on the lane.
        //    The buffer with the data may have turned out to be one that the peer keeps, and to need none.
        let handles = baggage.handles();
        if handles > 0 {
            let descriptors = baggage.descriptors().map_err(shortage)?;
            let sent = self.end.lane().send_handles(producer.sequence(), &descriptors);
            drop(descriptors);
            if let Err(why) = sent {
                // What fits the ring needs no room for descriptors. A poster that waits gets that room.
                let may_copy = if_full == IfFull::Grow && why.is_want_of_room();
                return match in_ring {
                    Some(data) if may_copy && baggage.copy_all(data_len, self.max_inline_len()) => {
                        self.send_carrier(producer, Data::InRing(data), baggage, if_full)
                    }
                    _ => Err(self.not_sent(why)),
                };
            }
        }
        // 4. Commit, which is step 7 of the standard: the message is in the queue of the target. Nothing fails from
        //    here on, and only now is anything detached.
        let look_for_idle = baggage.note_posted(&self.end);
        let outside = Outside { bodies: body.unwrap_or(0) as u64, buffers: baggage.buffer_bytes() };
        self.finish_post(producer, claim, len, RecordKind::Carrier, handles as u8);
        producer.note_outside(outside);
        baggage.detach();
        if look_for_idle {
            self.forget_idle(producer, false);
        }
        Ok(())
    }

    /// A buffer with a copy of `data`.
    fn filled(&self, data: &[u8], planned: &[Planned]) -> Result<Hold, PostDataError> {
        let hold = self.hold(data.len(), planned).map_err(shortage)?;
        hold.memory.write(0, data);
        Ok(hold)
    }

    /// Memory for `len` bytes: recycled, or new. Slots that are `planned` for other buffers are passed over.
    pub(super) fn hold(&self, len: usize, planned: &[Planned]) -> Result<Hold, Errno> {
        let recycled = self.end.buffers().pool().take(len, planned);
        if let Some(memory) = recycled {
            return Ok(Hold::new(memory, len, Role::Owner));
        }
        self.new_hold(len)
    }

    fn new_hold(&self, len: usize) -> Result<Hold, Errno> {
        let capacity = len.checked_next_multiple_of(PAGE).ok_or(Errno::EFBIG)?;
        Ok(Hold::new(Arc::new(Memory::create(capacity)?), len, Role::New))
    }

    /// Tells the peer to forget recycled buffers that are idle, or at once all that wait, as far as the ring has room.
    /// Returns how many.
    fn forget_idle(&self, producer: &mut Producer, at_once: bool) -> usize {
        let idle = self.end.buffers().pool().idle(at_once);
        let mut count = 0;
        for slot in idle {
            let Ok(claim) = producer.claim(FORGET_LEN) else { break };
            producer.fill(claim, &(slot as u64).to_ne_bytes());
            self.end.buffers().pool().forget(slot);
            self.finish_post(producer, claim, FORGET_LEN, RecordKind::Forget, 0);
            count += 1;
        }
        count
    }
}

fn shortage(errno: Errno) -> PostDataError {
    PostDataError::ResourceExhausted(exhausted(errno))
}

/// The data of a carrier.
enum Data<'a> {
    /// Copied to the ring.
    InRing(&'a [u8]),
    /// Copied to a buffer, since it does not fit any ring.
    ToBuffer(&'a [u8]),
    /// Written to a buffer already, which is as long as the data.
    InBuffer(Hold),
}

/// Writes the parts of a table behind `data_len` bytes of data.
fn table_writer(producer: &Producer, claim: Claim, data_len: usize) -> impl FnMut(&[u8]) {
    let mut offset = data_len.next_multiple_of(8);
    move |part| {
        producer.write(claim, offset, part);
        offset += part.len();
    }
}
