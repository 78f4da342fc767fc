//! Libraries of other languages, through the shims in `shims/`. Threads of theirs may run on both CPUs.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use messageport_bench::{Bench, Error, Link, Payload, Result, RoundTrips, Session, Side, Stream, Subject, Wait};

use crate::compare::{Skipped, add_subject, queue_depth};

/// The functions of a shim; `shims/shim.h` is their contract.
#[derive(Clone, Copy)]
struct Shim {
    open: unsafe extern "C" fn(*const c_char, *const c_char, c_int, usize, usize, c_int) -> *mut c_void,
    send: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> c_int,
    close: unsafe extern "C" fn(*mut c_void),
}

/// Declares the functions of a shim and makes a `Shim` of them.
macro_rules! shim {
    ($open:ident, $send:ident, $receive:ident, $close:ident) => {{
        unsafe extern "C" {
            fn $open(n: *const c_char, d: *const c_char, f: c_int, s: usize, c: usize, w: c_int) -> *mut c_void;
            fn $send(end: *mut c_void, data: *const c_void, len: usize) -> c_int;
            fn $receive(end: *mut c_void, data: *mut c_void, len: usize) -> c_int;
            fn $close(end: *mut c_void);
        }
        Shim { open: $open, send: $send, receive: $receive, close: $close }
    }};
}

struct Foreign {
    shim: Shim,
    end: NonNull<c_void>,
    payload: Payload,
    received: Vec<u8>,
}

impl Foreign {
    fn new(shim: Shim, session: &Session, size: usize, wait: Wait) -> Result<Self> {
        let text = |text: String| CString::new(text).map_err(Error::of("an odd name"));
        let name = text(session.name())?;
        let dir = text(std::env::temp_dir().to_string_lossy().into_owned())?;
        let (first, spin) = (session.side() == Side::First, wait == Wait::Spin);
        let end = session.on_both_cpus(|| {
            // SAFETY: both texts live beyond the call; the rest is numbers.
            Ok(unsafe { (shim.open)(name.as_ptr(), dir.as_ptr(), first.into(), size, queue_depth(size), spin.into()) })
        })?;
        let end = NonNull::new(end).ok_or_else(|| Error::failed("a peer cannot be set up"))?;
        Ok(Self { shim, end, payload: Payload::new(size), received: vec![0; size] })
    }
}

impl Link for Foreign {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let data = self.payload.stamped(stamp);
        // SAFETY: the end is open, and the data as long as we say.
        let failed = unsafe { (self.shim.send)(self.end.as_ptr(), data.as_ptr().cast(), data.len()) };
        if failed == 0 { Ok(()) } else { Err(Error::failed("a peer cannot send")) }
    }

    fn receive(&mut self) -> Result<u64> {
        let into = &mut self.received;
        // SAFETY: the end is open, and there is as much room as we say.
        let failed = unsafe { (self.shim.receive)(self.end.as_ptr(), into.as_mut_ptr().cast(), into.len()) };
        if failed == 0 { self.payload.stamp_of(into) } else { Err(Error::failed("a peer cannot receive")) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the end is open, and not used again.
        unsafe { (self.shim.close)(self.end.as_ptr()) }
    }
}

fn add_shim(suite: &mut [Bench], what: &'static str, shim: Shim, waits: &[Wait], stream: Wait) {
    for wait in waits.iter().copied() {
        let trips =
            Subject::new(what, "", wait, move |session, size| Foreign::new(shim, session, size, wait).map(RoundTrips));
        add_subject(suite, "rtt", trips);
    }
    let streams =
        Subject::new(what, "", stream, move |session, size| Foreign::new(shim, session, size, stream).map(Stream));
    add_subject(suite, "throughput", streams);
}

pub(crate) fn add(suite: &mut [Bench], skipped: &mut Vec<Skipped>) {
    let both = [Wait::Spin, Wait::Block];
    if cfg!(boost) {
        #[cfg(boost)]
        let shim = shim!(boost_open, boost_send, boost_receive, boost_close);
        #[cfg(boost)]
        add_shim(suite, "Boost message_queue", shim, &both, Wait::Spin);
    } else {
        skipped.push(("Boost.Interprocess", "libboost-dev was not installed when this was built"));
    }
    if cfg!(zeromq) {
        #[cfg(zeromq)]
        let shim = shim!(zeromq_open, zeromq_send, zeromq_receive, zeromq_close);
        #[cfg(zeromq)]
        add_shim(suite, "ZeroMQ", shim, &both, Wait::Block);
    } else {
        skipped.push(("ZeroMQ", "libzmq3-dev was not installed when this was built"));
    }
    if cfg!(nng) {
        #[cfg(nng)]
        let shim = shim!(nng_shim_open, nng_shim_send, nng_shim_receive, nng_shim_close);
        #[cfg(nng)]
        add_shim(suite, "nng", shim, &[Wait::Block], Wait::Block);
    } else {
        skipped.push(("nng", "libnng-dev was not installed when this was built"));
    }
    // All of it is used by some of the above.
    let _ = (both, add_shim, queue_depth);
}
