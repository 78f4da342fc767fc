//! A transfer list with one thing of each kind, and the proof that it arrives whole.
#![allow(dead_code)] // each test program uses a part

use messageport::{FrozenBuffer, Message, MessagePort, SharedBuffer, TransferRef, Transferable};

use super::ports::{assert_entangled, buffer_of, bytes_of, contents, file_of, pair, text};

/// Kinds of things that a message can carry.
pub(crate) const KINDS: usize = 5;
/// The bit of the buffer, which is shorter than a page.
pub(crate) const SMALL_BUFFER: usize = 1 << 1;
const ALL: usize = (1 << KINDS) - 1;

/// A transfer list, and the peer of the port on it.
pub(crate) struct Luggage {
    pub(crate) list: Vec<Transferable>,
    pub(crate) witness: MessagePort,
    /// Bit `n` is set if the list has a thing of the `n`th kind.
    kinds: usize,
}

impl Luggage {
    /// One thing of each kind.
    pub(crate) fn pack() -> Self {
        Self::pack_kinds(ALL)
    }

    /// One thing of each kind whose bit is set.
    pub(crate) fn pack_kinds(kinds: usize) -> Self {
        let (witness, port) = pair();
        witness.post_message(b"queued", []).expect("room");
        let all: [Transferable; KINDS] = [
            port.into(),
            buffer_of(b"pixels").into(),
            FrozenBuffer::from_bytes(b"weights").expect("memory").into(),
            shared_of(b"counters").into(),
            file_of(b"a file").into(),
        ];
        let packed = all.into_iter().enumerate().filter(|(kind, _)| kinds >> kind & 1 == 1);
        Self { list: packed.map(|(_, thing)| thing).collect(), witness, kinds }
    }

    /// The list, to post it.
    pub(crate) fn take(&mut self) -> Vec<Transferable> {
        std::mem::take(&mut self.list)
    }

    /// Asserts that `list` is the list that was packed, and that each thing on it works.
    #[track_caller]
    pub(crate) fn assert_whole<'a>(&self, list: impl IntoIterator<Item: Into<TransferRef<'a>>>) {
        let list: Vec<_> = list.into_iter().map(Into::into).collect();
        assert_contents(self.kinds, &list);
        if let Some(TransferRef::Port(port)) = list.first() {
            assert_entangled(port, &self.witness);
            self.witness.post_message(b"queued", []).expect("room"); // for the next assertion
        }
    }
}

/// Asserts that a message carries one thing of each kind, as packed.
#[track_caller]
pub(crate) fn assert_unpacked(message: &Message) {
    assert_contents(ALL, &message.transfer_list());
}

#[track_caller]
fn assert_contents(kinds: usize, list: &[TransferRef<'_>]) {
    use TransferRef::{Buffer, Descriptor, Frozen, Port, Shared};
    let mut kinds = (0..KINDS).filter(|kind| kinds >> kind & 1 == 1);
    for thing in list {
        match (kinds.next(), thing) {
            (Some(0), Port(port)) => assert_eq!(text(port), "queued"),
            (Some(1), Buffer(buffer)) => assert_eq!(bytes_of(buffer), b"pixels"),
            (Some(2), Frozen(buffer)) => assert_eq!(buffer[..], *b"weights"),
            (Some(3), Shared(buffer)) => assert_eq!(buffer.to_vec().expect("this process"), b"counters"),
            (Some(4), Descriptor(file)) => assert_eq!(contents(file), b"a file"),
            _ => panic!("not the list that was packed: {list:?}"),
        }
    }
    assert_eq!(kinds.next(), None, "a kind is missing: {list:?}");
}

/// A shared buffer with these bytes.
#[track_caller]
pub(crate) fn shared_of(bytes: &[u8]) -> SharedBuffer {
    let buffer = SharedBuffer::new(bytes.len()).expect("memory");
    buffer.copy_from_slice(bytes).expect("the buffer has this length");
    buffer
}
