//! C and C++ libraries, called through the shims in `shims/`. Their threads may run on both CPUs.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use messageport_bench::{Bench, Error, Link, Payload, Result, RoundTrips, Session, Side, Stream, Subject, Wait};

use crate::compare::{Skipped, add_subject, queue_depth};

/// The functions of a shim. `shims/shim.h` specifies them.
#[derive(Clone, Copy)]
struct Shim {
    open: unsafe extern "C" fn(*const c_char, *const c_char, c_int, usize, usize, c_int) -> *mut c_void,
    send: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> c_int,
    close: unsafe extern "C" fn(*mut c_void),
}

/// Declares the functions of a shim and evaluates to `Some(Shim)` with them, or to `None` if the build script did not
/// compile the shim of this library.
macro_rules! shim {
    ($library:ident: $open:ident, $send:ident, $receive:ident, $close:ident) => {{
        #[cfg($library)]
        {
            unsafe extern "C" {
                fn $open(n: *const c_char, d: *const c_char, f: c_int, s: usize, c: usize, w: c_int) -> *mut c_void;
                fn $send(end: *mut c_void, data: *const c_void, len: usize) -> c_int;
                fn $receive(end: *mut c_void, data: *mut c_void, len: usize) -> c_int;
                fn $close(end: *mut c_void);
            }
            Some(Shim { open: $open, send: $send, receive: $receive, close: $close })
        }
        #[cfg(not($library))]
        {
            None::<Shim>
        }
    }};
}

/// One side of a link through a shim.
struct Foreign {
    shim: Shim,
    end: NonNull<c_void>,
    payload: Payload,
    received: Vec<u8>,
}

impl Foreign {
    fn new(shim: Shim, session: &Session, size: usize, wait: Wait) -> Result<Self> {
        let text = |text: String| CString::new(text).map_err(Error::of("a name cannot be passed to C"));
        let name = text(session.name())?;
        let dir = text(std::env::temp_dir().to_string_lossy().into_owned())?;
        let (first, spin) = (session.side() == Side::First, wait == Wait::Spin);
        let end = session.on_both_cpus(|| {
            // SAFETY: both strings are NUL-terminated and outlive the call.
            Ok(unsafe { (shim.open)(name.as_ptr(), dir.as_ptr(), first.into(), size, queue_depth(size), spin.into()) })
        })?;
        let end = NonNull::new(end).ok_or_else(|| Error::failed("the peer cannot be set up"))?;
        Ok(Self { shim, end, payload: Payload::new(size), received: vec![0; size] })
    }
}

impl Link for Foreign {
    fn send(&mut self, stamp: u64) -> Result<()> {
        let data = self.payload.stamped(stamp);
        // SAFETY: `end` is open until `drop`, and `data` is valid for its length.
        let failed = unsafe { (self.shim.send)(self.end.as_ptr(), data.as_ptr().cast(), data.len()) };
        if failed == 0 { Ok(()) } else { Err(Error::failed("the peer cannot send")) }
    }

    fn receive(&mut self) -> Result<u64> {
        let into = &mut self.received;
        // SAFETY: `end` is open until `drop`, and `into` is writable for its length.
        let failed = unsafe { (self.shim.receive)(self.end.as_ptr(), into.as_mut_ptr().cast(), into.len()) };
        if failed == 0 { self.payload.stamp_of(into) } else { Err(Error::failed("the peer cannot receive")) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: `end` is open, and nothing uses it after `drop`.
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
    let both: &[Wait] = &[Wait::Spin, Wait::Block];
    let boost = shim!(boost: boost_open, boost_send, boost_receive, boost_close);
    let zeromq = shim!(zeromq: zeromq_open, zeromq_send, zeromq_receive, zeromq_close);
    let nng = shim!(nng: nng_shim_open, nng_shim_send, nng_shim_receive, nng_shim_close);
    for (what, shim, waits, stream, missing) in [
        ("Boost message_queue", boost, both, Wait::Spin, "libboost-dev was not installed when this was built"),
        ("ZeroMQ", zeromq, both, Wait::Block, "libzmq3-dev was not installed when this was built"),
        ("nng", nng, &[Wait::Block], Wait::Block, "libnng-dev was not installed when this was built"),
    ] {
        match shim {
            Some(shim) => add_shim(suite, what, shim, waits, stream),
            None => skipped.push((what, missing)),
        }
    }
}
