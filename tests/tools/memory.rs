//! The memory files behind ports and buffers, as the kernel shows them.
#![allow(dead_code)] // each test program uses a part

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};

use super::PATIENCE;

/// The result of `make`, and the one memory file of the library that `make` added to this process. The file is opened
/// anew: a second descriptor of the same pages, kept against the rules.
pub(crate) fn newest_memory<T>(make: impl FnOnce() -> T) -> (T, File) {
    let before = memory_files();
    let made = make();
    let mut after = memory_files();
    after.retain(|inode, _| !before.contains_key(inode));
    let (_, path) = after.pop_first().expect("a new memory file");
    assert!(after.is_empty(), "more than one new memory file: {after:?}");
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a memory file can be opened by its link");
    (made, file)
}

/// The memory files of the library that this process has open: their inodes, with one path each.
fn memory_files() -> BTreeMap<u64, PathBuf> {
    let descriptors = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten().map(|entry| entry.path());
    let ours = descriptors
        .filter(|path| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:messageport")));
    ours.filter_map(|path| Some((fs::metadata(&path).ok()?.ino(), path))).collect()
}

/// Bytes of the memory files of the library that this process has open.
pub(crate) fn open_memory() -> u64 {
    memory_files().values().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

/// Watches a file until its memory is free: no process has it open or mapped, and it is in no queue.
pub(crate) struct Watch {
    events: File,
}

impl Watch {
    #[allow(unsafe_code)]
    pub(crate) fn new(file: &File) -> Self {
        // SAFETY: takes no pointers.
        let events = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
        let events = Errno::result(events).expect("an inotify descriptor");
        // SAFETY: the descriptor is new, and this is its only owner.
        let events = unsafe { File::from_raw_fd(events) };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("a path without zeroes");
        // SAFETY: `path` is a string that ends with zero, and lives through the call.
        let watch = unsafe { libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_DELETE_SELF) };
        Errno::result(watch).expect("a memory file can be watched");
        Self { events }
    }

    pub(crate) fn is_freed(&self) -> bool {
        self.poll(0)
    }

    #[track_caller]
    pub(crate) fn assert_freed(mut self) {
        assert!(self.poll(PATIENCE.as_millis() as u16), "the memory is still in use");
        let mut event = [0; 64];
        self.events.read_exact(&mut event[..16]).expect("an event");
        assert_eq!(event[4..8], libc::IN_DELETE_SELF.to_ne_bytes());
    }

    fn poll(&self, milliseconds: u16) -> bool {
        let mut events = [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        poll(&mut events, milliseconds).expect("poll") > 0
    }
}
