//! iceoryx2: publish-subscribe of byte slices, one service per direction. Samples are loaned, written and read in
//! place. The receiver polls, or waits for an event that the sender raises after each message. Files of iceoryx2 lie in
//! a folder of this program.

use std::path::PathBuf;

use iceoryx2::config::Config;
use iceoryx2::port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe};
use messageport_bench::{
    Bench, Error, Gaps, Link, PEER_TIMEOUT, Payload, Result, RoundTrips, Session, Side, Stream, Subject, Wait,
    spin_until,
};

use crate::compare::{add_subject, queue_depth};

type Bytes = publish_subscribe::PortFactory<ipc::Service, [u8], ()>;
type Signal = event::PortFactory<ipc::Service>;

/// One side of the link. Fields are dropped in this order: ports before their services, services before the node.
struct Iceoryx {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    event: Option<(Notifier<ipc::Service>, Listener<ipc::Service>)>,
    payload: Payload,
    _services: [Bytes; 2],
    _signals: Option<[Signal; 2]>,
    _node: Node<ipc::Service>,
}

impl Iceoryx {
    fn new(session: &Session, size: usize, wait: Wait) -> Result<Self> {
        set_log_level(LogLevel::Fatal);
        let refuse = |error: &dyn std::fmt::Debug| Error::failed(format_args!("cannot set up iceoryx2: {error:?}"));
        let node = NodeBuilder::new().config(&config()?).create::<ipc::Service>().map_err(|error| refuse(&error))?;
        let name = session.name();
        let ways = if session.side() == Side::First { ["ab", "ba"] } else { ["ba", "ab"] };
        let named = |way: &str| ServiceName::new(&format!("{name}/{way}")).map_err(|error| refuse(&error));
        let service = |way: &str| {
            node.service_builder(&named(way)?)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false) // no message may be lost
                .subscriber_max_buffer_size(queue_depth(size))
                .max_publishers(1)
                .max_subscribers(1)
                .history_size(0)
                .open_or_create()
                .map_err(|error| refuse(&error))
        };
        let (outgoing, incoming) = (service(ways[0])?, service(ways[1])?);
        let publisher = outgoing
            .publisher_builder()
            .initial_max_slice_len(size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(|error| refuse(&error))?;
        let subscriber = incoming.subscriber_builder().create().map_err(|error| refuse(&error))?;
        let (mut event, mut signals) = (None, None);
        if wait == Wait::Block {
            let signal = |way: &str| {
                node.service_builder(&named(&format!("{way}-event"))?)
                    .event()
                    .open_or_create()
                    .map_err(|error| refuse(&error))
            };
            let (outgoing, incoming) = (signal(ways[0])?, signal(ways[1])?);
            let notifier = outgoing.notifier_builder().create().map_err(|error| refuse(&error))?;
            let listener = incoming.listener_builder().create().map_err(|error| refuse(&error))?;
            (event, signals) = (Some((notifier, listener)), Some([outgoing, incoming]));
        }
        let payload = Payload::new(size);
        let services = [outgoing, incoming];
        Ok(Self { publisher, subscriber, event, payload, _services: services, _signals: signals, _node: node })
    }
}

impl Link for Iceoryx {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let Self { publisher, payload, event, .. } = self;
        // A loan fails while all samples are in use; the receiver then has to release one first.
        let sample = spin_until(|| Ok(publisher.loan_slice_uninit(payload.size()).ok()))?;
        let sample = sample.write_from_slice(payload.stamped(stamp));
        sample.send().map_err(|error| Error::failed(format_args!("cannot send with iceoryx2: {error:?}")))?;
        if let Some((notifier, _)) = event {
            notifier.notify().map_err(|error| Error::failed(format_args!("cannot notify with iceoryx2: {error:?}")))?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        let Self { subscriber, payload, event, .. } = self;
        let receive = || {
            let sample = subscriber.receive();
            sample.map_err(|error| Error::failed(format_args!("cannot receive with iceoryx2: {error:?}")))
        };
        let sample = match event {
            None => spin_until(receive)?,
            Some((_, listener)) => loop {
                if let Some(sample) = receive()? {
                    break sample;
                }
                let waited = listener.timed_wait(|_| {}, PEER_TIMEOUT);
                waited.map_err(|error| Error::failed(format_args!("cannot wait with iceoryx2: {error:?}")))?;
            },
        };
        payload.stamp_of(sample.payload())
    }
}

/// Returns the folder for the files of iceoryx2, the same in both processes.
fn root() -> PathBuf {
    std::env::temp_dir().join("messageport-peers-iceoryx2")
}

/// Returns a configuration that keeps all files in [`root`] and gives shared memory a prefix of its own.
fn config() -> Result<Config> {
    let mut config = Config::default();
    let root = root();
    let path = root.to_str().and_then(|root| Path::new(root.as_bytes()).ok());
    config.global.set_root_path(
        &path.ok_or_else(|| Error::failed("the path of the temporary folder cannot be used with iceoryx2"))?,
    );
    config.global.prefix = FileName::new(b"mpbench_").map_err(|error| {
        Error::failed(format_args!("the prefix of file names cannot be used with iceoryx2: {error:?}"))
    })?;
    Ok(config)
}

/// Removes the files of iceoryx2: its folder, and shared memory of processes that were killed.
pub(crate) fn clean_up() {
    let _ = std::fs::remove_dir_all(root());
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("mpbench_") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(crate) fn add(suite: &mut [Bench]) {
    for wait in [Wait::Spin, Wait::Block] {
        let call = if wait == Wait::Block { "event" } else { "" };
        let trips = Subject::new("iceoryx2", call, wait, move |session, size| {
            Iceoryx::new(session, size, wait).map(RoundTrips)
        });
        add_subject(suite, "rtt", trips);
    }
    let stream =
        Subject::new("iceoryx2", "", Wait::Spin, |session, size| Iceoryx::new(session, size, Wait::Spin).map(Stream));
    add_subject(suite, "throughput", stream);
    for gap in [1, 3, 10, 30, 100, 1000, 10_000] {
        let delays = Subject::new("iceoryx2", "event", Wait::Block, move |session, size| {
            Ok(Gaps { link: Iceoryx::new(session, size, Wait::Block)?, gap: gap * 1000 })
        });
        add_subject(suite, "wake", delays.parameter("gap_us", gap));
    }
}
