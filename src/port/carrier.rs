//! Posting what a plain record cannot hold: transfer lists, and data that does not fit the ring. And the buffers that such
//! posts use again.
#![forbid(unsafe_code)]

use super::baggage::{Baggage, Known};
use super::post::{Data, IfFull, Peer};
use super::transfer::TransferRef;
use super::{MessagePort, SendHalf};
use crate::buffer::TransferBuffer;
use crate::buffer::memory::{Hold, Memory, Role};
use crate::buffer::pool::{PAGE, Planned};
use crate::capsule::buffer::KnownCapsule;
use crate::end::State;
use crate::error::{BufferError, PostErrorKind, exhausted};
use crate::queue::record::{FORGET_LEN, Kind};
use crate::queue::ring::{Producer, Slot};
use crate::sys::Errno;
use std::cell::RefMut;
use std::sync::Arc;

impl MessagePort {
    /// A buffer of `len` bytes to be filled and posted here: one that came back, if there is one, or a new one.
    ///
    /// A buffer that was posted on this port before and came back costs no system call and no page fault, and posting
    /// it again costs the same whatever its size: the peer has kept its mapping. It comes back when the peer drops it, or
    /// posts it back over this channel. Its bytes are what was last written to it by either side; a new one is all zero.
    ///
    /// So that this works both sides keep buffers that were posted here, as many as
    /// [`ChannelOptions`](crate::ChannelOptions) allow; a [`TransferBuffer::new`] that is posted joins them. A buffer that the
    /// peer posted on to somebody else is given up. While this port and its peer live, a buffer of this pool cannot be
    /// posted on another port: [`PooledElsewhere`](PostErrorKind::PooledElsewhere).
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

    /// Gives back the memory of this port's recycled buffers that nobody uses at the moment. Returns how many were let go;
    /// fewer than there are if the queue is full. Those that have not been used for a second are let go as well when other
    /// buffers are posted.
    ///
    /// # Errors
    /// The port cannot be used, or its peer is gone.
    pub fn release_buffers(&self) -> Result<usize, PostErrorKind> {
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
        self.new_hold(len)
            .map(TransferBuffer::from_hold)
            .map_err(|errno| BufferError::ResourceExhausted(exhausted(errno)))
    }

    /// See [`MessagePort::release_buffers`].
    pub fn release_buffers(&self) -> Result<usize, PostErrorKind> {
        let _posting = self.end.posting();
        let mut producer = self.open()?;
        match self.find_peer()? {
            Peer::Receives => Ok(self.forget_idle(&mut producer, true)),
            Peer::Discards => Ok(0),
        }
    }

    /// The way of a message with one buffer that the peer knows, when nothing stands in it; as
    /// [`post_straight`](Self::post_straight).
    pub(crate) fn post_known_straight(&self, data: &[u8], buffer: &TransferBuffer) -> bool {
        let _posting = self.end.posting();
        let Some(mut producer) = self.straight() else { return false };
        let Some(known) = Known::find(buffer, &self.end) else { return false };
        let Some(capsule) = known.capsule(data.len()) else { return false };
        let len = KnownCapsule::payload_len(data.len());
        let direction = producer.direction();
        if direction.is_grown() || len > direction.max_data_len() {
            return false;
        }
        let Ok(slot) = producer.reserve(len) else { return false };
        // From here on nothing can fail.
        producer.write(slot, 0, data);
        producer.write(slot, len - size_of::<KnownCapsule>(), &capsule.to_bytes());
        let look_for_idle = known.hand_over(&self.end);
        producer.commit(slot, len, Kind::Buffer, 0);
        self.end.wake_peer_consumer();
        producer.clear_ahead(len);
        known.detach();
        if look_for_idle {
            self.forget_idle(&mut producer, false);
        }
        true
    }

    /// The same with a transfer list, or with data that does not fit the ring. Whatever fails, fails before the commit, and
    /// undoes itself by being dropped.
    #[cold]
    pub(crate) fn post_carrier(
        &self,
        mut producer: RefMut<'_, Producer>,
        data: Data<'_>,
        list: &[TransferRef<'_>],
        if_full: IfFull,
    ) -> Result<(), PostErrorKind> {
        let mut baggage = Baggage::check(list, Some(&self.end))?;
        let limits = self.end.segment().limits();
        let has_body = match &data {
            Data::Copy(data) => baggage.payload_len(data.len()) > self.max_inline_len() && limits.max_handles > 0,
            Data::InBuffer(_) => true,
        };
        let at_most = |handles| match limits.max_handles {
            max if handles > max => Err(PostErrorKind::TooManyHandles { handles, max }),
            _ => Ok(()),
        };
        at_most(baggage.handles())?;
        self.may_be_posted(data.len())?;
        // The buffer with the data may turn out to be known to the peer, and to need no descriptor.
        at_most(baggage.handles() + usize::from(has_body))?;
        let data_len = if has_body { 0 } else { data.len() };
        if has_body {
            baggage.expect_body();
        }
        let len = baggage.payload_len(data_len);
        self.fits_inline(len)?;
        if self.find_peer()? == Peer::Discards {
            baggage.discard();
            return Ok(());
        }
        let slot = self.find_room(&mut producer, len, if_full)?;
        match data {
            Data::Copy(data) if has_body => baggage.set_body(self.filled(data, baggage.planned())?, &self.end),
            Data::Copy(data) => producer.write(slot, 0, data),
            Data::InBuffer(hold) => baggage.set_body(hold, &self.end),
        }
        baggage.write_table(data_len, table_writer(&producer, slot, data_len));
        // The descriptors first: whoever sees the record finds them on the lane.
        let handles = baggage.handles();
        if handles > 0 {
            let mut descriptors = Vec::with_capacity(handles);
            baggage.descriptors().for_each(|descriptor| descriptors.push(descriptor));
            self.end.lane().send_handles(producer.sequence(), &descriptors).map_err(|why| self.not_sent(why))?;
        }
        let look_for_idle = baggage.hand_over(&self.end);
        producer.commit(slot, len, Kind::Carrier, handles as u8);
        self.end.wake_peer_consumer();
        baggage.detach();
        if look_for_idle {
            self.forget_idle(&mut producer, false);
        }
        Ok(())
    }

    /// A buffer with a copy of `data`.
    fn filled(&self, data: &[u8], planned: &[Planned]) -> Result<Hold, PostErrorKind> {
        let hold =
            self.hold(data.len(), planned).map_err(|errno| PostErrorKind::ResourceExhausted(exhausted(errno)))?;
        hold.memory.write(data);
        Ok(hold)
    }

    /// Memory for `len` bytes: some that came back, or new.
    pub(crate) fn hold(&self, len: usize, planned: &[Planned]) -> Result<Hold, Errno> {
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

    /// Has the peer forget recycled buffers that wait, if there is room to say so. Returns how many.
    fn forget_idle(&self, producer: &mut Producer, at_once: bool) -> usize {
        let idle = self.end.buffers().pool().idle(at_once);
        let mut count = 0;
        for slot in idle {
            let Ok(room) = producer.reserve(FORGET_LEN) else { break };
            producer.write(room, 0, &(slot as u64).to_ne_bytes());
            self.end.buffers().pool().forget(slot);
            producer.commit(room, FORGET_LEN, Kind::Forget, 0);
            self.end.wake_peer_consumer();
            count += 1;
        }
        count
    }
}

/// Writes the parts of a table behind `data_len` bytes of data.
fn table_writer(producer: &Producer, slot: Slot, data_len: usize) -> impl FnMut(&[u8]) {
    let mut at = data_len.next_multiple_of(8);
    move |part| {
        producer.write(slot, at, part);
        at += part.len();
    }
}
