//! ipc-channel: messages over one bytes channel per direction, and memory sent as `IpcSharedMemory`.

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{
    IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory, bytes_channel, channel,
};
use messageport_bench::{
    Bench, Error, Link, Payload, Result, RoundTrips, Session, Side, Stream, Subject, Wait, spin_until,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::compare::add_subject;

/// Connects both sides through a one-shot server, as the documentation of ipc-channel shows. The second side calls
/// `make` for its own ends and those of the first side, which takes them with `of`.
fn meet<T: Serialize + DeserializeOwned, O>(
    session: &Session,
    make: impl FnOnce() -> std::io::Result<(O, T)>,
    of: impl FnOnce(T) -> O,
) -> Result<O> {
    let failed = Error::of("cannot set up ipc-channel");
    match session.side() {
        Side::First => {
            let (server, name) = IpcOneShotServer::<T>::new().map_err(&failed)?;
            session.text(|| Ok(name))?;
            let (_, theirs) = server.accept().map_err(Error::of("cannot set up ipc-channel"))?;
            Ok(of(theirs))
        }
        Side::Second => {
            let name = session.text(|| Err(Error::failed("only the first side names the server")))?;
            let (ours, theirs) = make().map_err(&failed)?;
            let sender = IpcSender::<T>::connect(name).map_err(failed)?;
            sender.send(theirs).map_err(Error::of("cannot set up ipc-channel"))?;
            Ok(ours)
        }
    }
}

/// Sends messages over a bytes channel.
struct BytesLink {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
    payload: Payload,
    spins: bool,
}

impl BytesLink {
    fn new(session: &Session, size: usize, wait: Wait) -> Result<Self> {
        let make = || {
            let ((to_first, at_first), (to_second, at_second)) = (bytes_channel()?, bytes_channel()?);
            Ok(((to_first, at_second), (to_second, at_first)))
        };
        let (sender, receiver) = meet(session, make, |ends| ends)?;
        Ok(Self { sender, receiver, payload: Payload::new(size), spins: wait == Wait::Spin })
    }
}

impl Link for BytesLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        self.sender.send(self.payload.stamped(stamp)).map_err(Error::of("cannot send with ipc-channel"))
    }

    fn receive(&mut self) -> Result<u64> {
        let failed = Error::of("cannot receive with ipc-channel");
        let data = if self.spins {
            spin_until(|| match self.receiver.try_recv() {
                Ok(data) => Ok(Some(data)),
                Err(TryRecvError::Empty) => Ok(None),
                Err(error) => Err(Error::failed(format_args!("cannot receive with ipc-channel: {error}"))),
            })?
        } else {
            self.receiver.recv().map_err(failed)?
        };
        self.payload.stamp_of(&data)
    }
}

/// Sends new memory on each round trip, written when it is created. The answer is a stamp.
struct MemoryLink {
    sender: IpcSender<(u64, Option<IpcSharedMemory>)>,
    receiver: IpcReceiver<(u64, Option<IpcSharedMemory>)>,
    side: Side,
    payload: Payload,
}

impl MemoryLink {
    fn new(session: &Session, size: usize) -> Result<Self> {
        let make = || {
            let ((to_first, at_first), (to_second, at_second)) = (channel()?, channel()?);
            Ok(((to_first, at_second), (to_second, at_first)))
        };
        let (sender, receiver) = meet(session, make, |ends| ends)?;
        Ok(Self { sender, receiver, side: session.side(), payload: Payload::new(size) })
    }
}

impl Link for MemoryLink {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let new = self.side == Side::First;
        let memory = new.then(|| IpcSharedMemory::from_bytes(self.payload.stamped(stamp)));
        self.sender.send((stamp, memory)).map_err(Error::of("cannot send with ipc-channel"))
    }

    fn receive(&mut self) -> Result<u64> {
        let (stamp, memory) = self.receiver.recv().map_err(Error::of("cannot receive with ipc-channel"))?;
        match memory {
            Some(memory) => self.payload.stamp_of(&memory),
            None => Ok(stamp),
        }
    }
}

pub(crate) fn add(suite: &mut [Bench]) {
    for wait in [Wait::Spin, Wait::Block] {
        let trips = Subject::new("ipc-channel", "bytes", wait, move |session, size| {
            BytesLink::new(session, size, wait).map(RoundTrips)
        });
        add_subject(suite, "rtt", trips);
    }
    let stream = Subject::new("ipc-channel", "bytes", Wait::Block, |session, size| {
        BytesLink::new(session, size, Wait::Block).map(Stream)
    });
    add_subject(suite, "throughput", stream);
    let memory = Subject::new("ipc-channel", "fresh, touched", Wait::Block, |session, size| {
        MemoryLink::new(session, size).map(RoundTrips)
    });
    add_subject(suite, "buffers", memory.sizes(|size| size <= 16 << 20).against("messageport fresh, touched spin"));
}
