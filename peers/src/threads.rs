//! Queues between two threads of one process, without a process boundary, wake-ups or variable sizes. Messages are
//! values of a fixed size. The second thread is pinned to the CPU of the second process.

use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use messageport_bench::{
    Bench, Error, Outcome, Player, Result, Session, Side, Subject, Turn, Wait, expect, pin, spin_until, streamed, timed,
};

use crate::compare::add_subject;

/// Capacity of a queue in messages.
const DEPTH: usize = 1024;

/// A message of `N` words.
#[derive(Clone, Copy)]
struct Value<const N: usize>([u64; N]);

impl<const N: usize> Value<N> {
    #[inline]
    fn new(stamp: u64) -> Self {
        let mut words = [0x5a; N];
        words[0] = stamp;
        Self(words)
    }

    /// Checks the sum of the words and returns the stamp.
    #[inline]
    fn stamp(&self) -> Result<u64> {
        let sum = self.0.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        if sum == self.0[0].wrapping_add(0x5a * (N as u64 - 1)) {
            return Ok(self.0[0]);
        }
        Err(Error::failed("a wrong message arrived"))
    }
}

/// One end of two queues, one per direction.
trait Queue<const N: usize>: Send {
    /// Creates both ends.
    fn pair() -> (Self, Self)
    where
        Self: Sized;
    /// Sends a value and returns true, or returns false if the queue is full.
    fn push(&mut self, value: Value<N>) -> bool;
    /// Receives a value, or returns `None` if the queue is empty.
    fn pop(&mut self) -> Option<Value<N>>;
}

impl<const N: usize> Queue<N> for (rtrb::Producer<Value<N>>, rtrb::Consumer<Value<N>>) {
    fn pair() -> (Self, Self) {
        let ((to_a, at_a), (to_b, at_b)) = (rtrb::RingBuffer::new(DEPTH), rtrb::RingBuffer::new(DEPTH));
        ((to_b, at_a), (to_a, at_b))
    }

    #[inline]
    fn push(&mut self, value: Value<N>) -> bool {
        self.0.push(value).is_ok()
    }

    #[inline]
    fn pop(&mut self) -> Option<Value<N>> {
        self.1.pop().ok()
    }
}

impl<const N: usize> Queue<N> for (crossbeam_channel::Sender<Value<N>>, crossbeam_channel::Receiver<Value<N>>) {
    fn pair() -> (Self, Self) {
        let ((to_a, at_a), (to_b, at_b)) = (crossbeam_channel::bounded(DEPTH), crossbeam_channel::bounded(DEPTH));
        ((to_b, at_a), (to_a, at_b))
    }

    #[inline]
    fn push(&mut self, value: Value<N>) -> bool {
        self.0.try_send(value).is_ok()
    }

    #[inline]
    fn pop(&mut self) -> Option<Value<N>> {
        self.1.try_recv().ok()
    }
}

#[inline]
fn send<const N: usize>(queue: &mut impl Queue<N>, stamp: u64) -> Result<()> {
    let value = Value::new(stamp);
    spin_until(|| Ok(queue.push(value).then_some(())))
}

#[inline]
fn receive<const N: usize>(queue: &mut impl Queue<N>, stamp: u64) -> Result<()> {
    expect(spin_until(|| Ok(queue.pop()))?.stamp()?, stamp)
}

/// Plays both sides of a turn in the first process, the second side in a new thread.
struct Threads<Q, const N: usize> {
    ours: Q,
    theirs: Q,
    cpu: usize,
    stream: bool,
}

impl<Q: Queue<N>, const N: usize> Threads<Q, N> {
    fn new(session: &Session, stream: bool) -> Self {
        let (ours, theirs) = Q::pair();
        Self { ours, theirs, cpu: session.cpus()[1], stream }
    }
}

impl<Q: Queue<N>, const N: usize> Player for Threads<Q, N> {
    fn play(&mut self, turn: &Turn, latencies: Option<&mut Histogram<u64>>) -> Result<Outcome> {
        if turn.side == Side::Second {
            return Ok(Outcome::default());
        }
        let Self { ours, theirs, cpu, stream } = self;
        let (stream, stamps) = (*stream, turn.stamp..turn.stamp + turn.warm_up + turn.count);
        let ready = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                pin(*cpu)?;
                // Release: pairs with the acquire load below.
                ready.store(true, Ordering::Release);
                stamps.clone().try_for_each(|stamp| {
                    if !stream {
                        receive(theirs, stamp)?;
                    }
                    send(theirs, stamp)
                })
            });
            // Acquire: pairs with the release store above. The turn begins when the thread is pinned.
            spin_until(|| Ok(ready.load(Ordering::Acquire).then_some(())))?;
            let outcome = if stream {
                streamed(turn, |stamp| receive(ours, stamp))
            } else {
                let mut stamp = turn.stamp;
                timed(turn, latencies, || {
                    send(ours, stamp)?;
                    receive(ours, stamp)?;
                    stamp += 1;
                    Ok(())
                })
            }?;
            other.join().map_err(|_| Error::failed("the other thread panicked"))??;
            Ok(outcome)
        })
    }
}

/// Opens the player for messages of `size` bytes.
fn open<Q1, Q8, Q128>(session: &Session, size: usize, stream: bool) -> Result<Box<dyn Player>>
where
    Q1: Queue<1> + 'static,
    Q8: Queue<8> + 'static,
    Q128: Queue<128> + 'static,
{
    Ok(match size {
        8 => Box::new(Threads::<Q1, 1>::new(session, stream)),
        64 => Box::new(Threads::<Q8, 8>::new(session, stream)),
        1024 => Box::new(Threads::<Q128, 128>::new(session, stream)),
        _ => return Err(Error::failed(format_args!("there is no queue for messages of {size} bytes"))),
    })
}

type Rtrb<const N: usize> = (rtrb::Producer<Value<N>>, rtrb::Consumer<Value<N>>);
type Crossbeam<const N: usize> = (crossbeam_channel::Sender<Value<N>>, crossbeam_channel::Receiver<Value<N>>);

pub(crate) fn add(suite: &mut [Bench]) {
    let sizes = |size: usize| [8, 64, 1024].contains(&size);
    for (bench, stream) in [("rtt", false), ("throughput", true)] {
        let rtrb = Subject::new("rtrb", "threads", Wait::Spin, move |session, size| {
            open::<Rtrb<1>, Rtrb<8>, Rtrb<128>>(session, size, stream)
        });
        add_subject(suite, bench, rtrb.sizes(sizes));
        let crossbeam = Subject::new("crossbeam-channel", "threads", Wait::Spin, move |session, size| {
            open::<Crossbeam<1>, Crossbeam<8>, Crossbeam<128>>(session, size, stream)
        });
        add_subject(suite, bench, crossbeam.sizes(sizes));
    }
}
