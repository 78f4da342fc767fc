//! Random handlers on random ports: from inside they post, close, transfer, pull, panic and move ports, their own
//! included. In any case each port gets the messages of its peer, in order and exactly once, and then the end.
//!
//! `PROPTEST_CASES` sets the number of random worlds.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use messageport::{ChannelOptions, ErrorEvent, EventLoop, Message, MessageChannel, PortHandle, TransferRef};
use proptest::prelude::*;

const PAIRS: usize = 4;
const ENDS: usize = 2 * PAIRS;
const PLANNED: &str = "a planned panic";

/// An action of a handler or of the test. Numbers are ends.
#[derive(Clone, Copy, Debug)]
enum Action {
    Nothing,
    Post(usize),
    Start(usize),
    Close(usize),
    /// Posts the first port over the second.
    Transfer(usize, usize),
    Pull(usize),
    /// Removes the port from the loop and adds it again: disabled, then started.
    Rehang(usize),
    Panic,
    Run,
}

#[derive(Default)]
struct End {
    /// `None` while it is in transit.
    handle: Option<PortHandle>,
    started: bool,
    closed: bool,
    /// The end in whose queue this end waits.
    waits_in: Option<usize>,
    sent: u32,
    received: u32,
    close_events: u32,
    script: Vec<Action>,
}

struct World {
    events: EventLoop,
    ends: RefCell<Vec<End>>,
    failures: RefCell<Vec<String>>,
    /// The number of actions left, since handlers could go on for ever.
    budget: RefCell<u32>,
}

fn peer(end: usize) -> usize {
    end ^ 1
}

impl World {
    fn new(scripts: Vec<Vec<Action>>, batch: usize) -> Rc<Self> {
        let events = EventLoop::new().expect("a loop");
        events.set_batch(batch);
        let world = Rc::new(Self {
            events,
            ends: RefCell::new((0..ENDS).map(|_| End::default()).collect()),
            failures: RefCell::default(),
            budget: RefCell::new(2000),
        });
        let weak = Rc::downgrade(&world);
        world.events.set_onerror(move |error| {
            let planned = matches!(error, ErrorEvent::Panic(payload) if payload.downcast_ref() == Some(&PLANNED));
            if !planned {
                weak.upgrade().expect("the world").failures.borrow_mut().push(error.to_string());
            }
        });
        for (number, script) in scripts.into_iter().enumerate() {
            world.ends.borrow_mut()[number].script = script;
        }
        for pair in 0..PAIRS {
            let options = ChannelOptions::new().capacity(4096);
            let MessageChannel { port1, port2 } = options.create().expect("a channel");
            world.hang(2 * pair, port1);
            world.hang(2 * pair + 1, port2);
        }
        world
    }

    /// Adds a port to the loop, with the handlers of its end, not started.
    fn hang(self: &Rc<Self>, end: usize, port: messageport::MessagePort) {
        let handle = self.events.add(port).expect("the loop takes the port");
        let world = Rc::downgrade(self);
        handle.add_handler(move |_, event: &mut messageport::MessageEvent| {
            let world = world.upgrade().expect("the world");
            let number = world.receive(end, std::mem::take(&mut event.message));
            let ends = world.ends.borrow();
            let script = &ends[end].script;
            let action = script.get(number as usize % script.len().max(1)).copied().unwrap_or(Action::Nothing);
            drop(ends);
            world.act(action);
        });
        let world = Rc::downgrade(self);
        handle.set_onclose(move |_, _| {
            let world = world.upgrade().expect("the world");
            let mut ends = world.ends.borrow_mut();
            ends[end].close_events += 1;
            let all = ends[end].received == ends[peer(end)].sent;
            assert!(all || !ends[end].started, "the end comes to a started port after the last message");
        });
        let mut ends = self.ends.borrow_mut();
        ends[end].started = false;
        let old = ends[end].handle.replace(handle);
        drop(ends);
        drop(old);
    }

    /// Receives a message, which must be the next one. The ports that it carries go on here.
    fn receive(self: &Rc<Self>, end: usize, message: Message) -> u32 {
        let words: Vec<u32> = message.data.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        {
            let mut ends = self.ends.borrow_mut();
            assert!(ends[end].received == words[0], "end {end}: {} instead of {}", words[0], ends[end].received);
            ends[end].received += 1;
            assert!(!ends[end].closed || ends[end].started, "nothing comes to a port that was closed before its start");
        }
        assert_eq!(message.ports.len(), words.len() - 1);
        for (port, number) in message.ports.into_iter().zip(&words[1..]) {
            let number = *number as usize;
            assert_eq!(self.ends.borrow_mut()[number].waits_in.take(), Some(end));
            self.hang(number, port);
            self.start(number);
        }
        words[0]
    }

    fn handle(&self, end: usize) -> Option<PortHandle> {
        self.ends.borrow()[end].handle.clone()
    }

    fn start(&self, end: usize) {
        if let Some(handle) = self.handle(end) {
            let this = &mut self.ends.borrow_mut()[end];
            this.started |= !this.closed;
            handle.start();
        }
    }

    fn act(self: &Rc<Self>, action: Action) {
        let left = self.budget.borrow().saturating_sub(1);
        *self.budget.borrow_mut() = left;
        if left == 0 {
            return;
        }
        match action {
            Action::Nothing => {}
            Action::Post(end) => {
                let Some(handle) = self.handle(end) else { return };
                let number = self.ends.borrow()[end].sent;
                if handle.post_message(&number.to_ne_bytes(), []).is_ok() {
                    self.ends.borrow_mut()[end].sent += 1;
                }
            }
            Action::Start(end) => self.start(end),
            Action::Close(end) => {
                if let Some(handle) = self.handle(end) {
                    handle.close();
                    self.ends.borrow_mut()[end].closed = true;
                }
            }
            Action::Transfer(end, over) => self.transfer(end, over),
            Action::Pull(end) => {
                if let Some(Ok(message)) = self.handle(end).map(|handle| handle.try_recv()) {
                    self.receive(end, message);
                }
            }
            Action::Rehang(end) => {
                let Some(handle) = self.handle(end) else { return };
                // Not after the end of the peer: a port that is added again reports its end again. Not after a close:
                // the model would forget that the port was started.
                let fits = |this: &End| this.close_events == 0 && !this.closed;
                if fits(&self.ends.borrow()[end])
                    && let Some(port) = self.events.remove(&handle)
                {
                    self.hang(end, port);
                    self.start(end);
                }
            }
            Action::Panic => std::panic::resume_unwind(Box::new(PLANNED)), // without the panic hook
            Action::Run => assert!(self.events.run_once_timeout(Duration::ZERO).is_err(), "a loop runs within itself"),
        }
    }

    fn transfer(&self, end: usize, over: usize) {
        let (Some(handle), Some(carrier)) = (self.handle(end), self.handle(over)) else { return };
        if self.ends.borrow()[end].close_events > 0 {
            return; // as in `Action::Rehang`
        }
        let sent = self.ends.borrow()[over].sent;
        let data = [sent.to_ne_bytes(), (end as u32).to_ne_bytes()].concat();
        let result = {
            let Some(port) = handle.port() else { return };
            carrier.post_message_detaching(&data, &[TransferRef::Port(&port)])
        };
        assert!(result.is_err() || end / 2 != over / 2, "a port cannot go to its own peer");
        if result.is_ok() {
            let mut ends = self.ends.borrow_mut();
            ends[over].sent += 1;
            ends[end].waits_in = Some(peer(over));
            ends[end].handle = None;
        }
    }

    /// True if an end was dropped with the queue in which it waited. `None` if ports wait in each other's queues, which
    /// the kernel may collect at any time.
    fn lost(&self, end: usize) -> Option<bool> {
        let ends = self.ends.borrow();
        let mut at = end;
        for _ in 0..=ENDS {
            match ends[at].waits_in {
                None => return Some(at != end && ends[at].closed),
                Some(_) if at != end && ends[at].closed => return Some(true),
                Some(next) => at = next,
            }
        }
        None
    }

    fn run_dry(&self) {
        while self.events.run_once_timeout(Duration::ZERO).expect("the loop runs") > 0 {}
    }

    fn check(&self) {
        assert!(self.failures.borrow().is_empty(), "{:?}", self.failures.borrow());
        for end in 0..ENDS {
            let peer_gone = self.lost(peer(end)).map(|lost| lost || self.ends.borrow()[peer(end)].closed);
            let ends = self.ends.borrow();
            let this = &ends[end];
            assert!(this.received <= ends[peer(end)].sent);
            if this.handle.is_none() || this.closed {
                continue;
            }
            let all = this.received == ends[peer(end)].sent;
            assert!(all || !this.started, "end {end}: {} of {} came", this.received, ends[peer(end)].sent);
            match peer_gone {
                Some(true) => assert_eq!(this.close_events, 1, "end {end}"),
                Some(false) => assert_eq!(this.close_events, 0, "end {end}"),
                None => assert!(this.close_events <= 1),
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let end = 0..ENDS;
    prop_oneof![
        2 => Just(Action::Nothing),
        8 => end.clone().prop_map(Action::Post),
        3 => end.clone().prop_map(Action::Start),
        1 => end.clone().prop_map(Action::Close),
        3 => (end.clone(), end.clone()).prop_map(|(end, over)| Action::Transfer(end, over)),
        2 => end.clone().prop_map(Action::Pull),
        2 => end.prop_map(Action::Rehang),
        1 => Just(Action::Panic),
        1 => Just(Action::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_dispatched_once_and_in_order(
        scripts in prop::collection::vec(prop::collection::vec(action(), 0..6), ENDS),
        steps in prop::collection::vec((action(), any::<bool>()), 1..60),
        batch in 1_usize..6,
    ) {
        let world = World::new(scripts, batch);
        for (action, run) in steps {
            match action {
                Action::Panic | Action::Run => world.run_dry(),
                action => world.act(action),
            }
            if run {
                world.events.run_once_timeout(Duration::ZERO).expect("the loop runs");
            }
        }
        world.run_dry();
        world.check();
    }
}
