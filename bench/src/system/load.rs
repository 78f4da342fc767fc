//! Other work for the CPUs of a run.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::machine;
use crate::error::{Error, Result};

/// A thread on each CPU that computes without a pause, until the load is dropped.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    pub(crate) fn start(cpus: [usize; 2]) -> Result<Self> {
        let mut load = Self { over: Arc::default(), threads: Vec::new() };
        for cpu in cpus {
            let over = Arc::clone(&load.over);
            let work = move || {
                machine::pin(cpu)?;
                // Relaxed: a flag, which publishes nothing.
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
                Ok(())
            };
            let thread = thread::Builder::new().spawn(work);
            load.threads.push(thread.map_err(Error::of("cannot start a thread"))?);
        }
        Ok(load)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Relaxed: as in `start`.
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a thread that could not be pinned has ended early, and the figures show it
        }
    }
}
