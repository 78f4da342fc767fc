//! Event loops, and a log of what their handlers saw.
#![allow(dead_code)] // each test program uses a part

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use messageport::{EventLoop, MessageEvent, PortHandle};

use super::PATIENCE;

/// The events so far, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    pub(crate) fn last(&self) -> Option<String> {
        self.0.borrow().last().cloned()
    }

    #[track_caller]
    pub(crate) fn assert(&self, expected: &[&str]) {
        assert_eq!(*self.0.borrow(), expected);
    }

    /// A handler that adds the data of each message.
    pub(crate) fn messages(&self) -> impl FnMut(&PortHandle, &mut MessageEvent) + 'static {
        self.messages_as("")
    }

    /// A handler that adds the data of each message behind `prefix`.
    pub(crate) fn messages_as(&self, prefix: &'static str) -> impl FnMut(&PortHandle, &mut MessageEvent) + 'static {
        let log = self.clone();
        move |_, event| log.add(format!("{prefix}{}", data_of(event)))
    }
}

/// The data of an event, as text.
pub(crate) fn data_of(event: &MessageEvent) -> String {
    String::from_utf8(event.data.clone()).expect("text")
}

/// An event loop that aborts the process if a handler panics: the loop would go on, and a failed assertion in a handler
/// would pass unnoticed.
pub(crate) fn event_loop() -> EventLoop {
    let events = EventLoop::new().expect("an event loop");
    events.set_onerror(|error| {
        eprintln!("{error}");
        std::process::abort();
    });
    events
}

/// Runs the loop until `done` returns true.
#[track_caller]
pub(crate) fn run_until(events: &EventLoop, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        events.run_once_timeout(Duration::from_millis(100)).expect("the loop runs");
        assert!(start.elapsed() < PATIENCE, "it does not happen");
    }
}

/// Dispatches every event that is there.
#[track_caller]
pub(crate) fn run_dry(events: &EventLoop) {
    while events.run_once_timeout(Duration::ZERO).expect("the loop runs") > 0 {}
}
