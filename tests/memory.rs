//! The memory files behind ports and buffers: what a hostile peer can do with those that it holds too, and what they
//! cost a process that has little memory, or that locks its memory.

mod tools;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use messageport::{
    BufferError, ChannelOptions, CloseReason, ConnectOptions, FreezeErrorKind, FrozenBuffer, Listener, Message,
    NamedBufferError, PostDataError, SharedBuffer, TransferBuffer, TryRecvError, parent_port,
};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::geteuid;

use tools::attacker::Attacker;
use tools::child::{Process, Role, play};
use tools::ledger::alone;
use tools::memory::newest_memory;
use tools::{PATIENCE, assert_entangled, buffer_of, end_of, hop, pair, pair_of, pair_with, text, within};

const ROLES: &[Role] =
    &[("locker", locker), ("client", client), ("caged", caged), ("locked in memory", locked_in_memory)];

/// Five seconds: a call that takes longer waits for the peer.
const HANGS: Duration = Duration::from_secs(5);

// A peer that holds the inode lock of a memory file.

/// Bytes of the things whose memory is locked: a long write to one of them takes some milliseconds.
const LEN: usize = 8 << 20;

const LOCKED: [&str; 4] = ["a port", "a buffer", "a port with a buffer", "a shared buffer"];

#[test]
fn a_peer_that_holds_the_lock_of_a_memory_file_delays_nothing() {
    let _alone = alone();
    let (_locker, mut control) = Process::start("locker");
    for name in LOCKED {
        control.post_message(name.as_bytes(), []).expect("room");
        control = within(HANGS, move || {
            let message = control.recv().expect(name);
            assert_eq!(message.data, name.as_bytes());
            use_and_drop(message);
            control
        });
    }
}

#[test]
fn a_client_that_holds_the_lock_of_its_memory_files_does_not_delay_the_listener() {
    let _alone = alone();
    let folder = std::env::temp_dir().join(format!("messageport-memory-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder).expect("a folder");
    let name = folder.join("service").to_str().expect("a path of text").to_owned();
    let (_client, control) = Process::start("client");
    let listener = Listener::bind(&name).expect("a free name");
    control.post_message(name.as_bytes(), []).expect("room");
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    assert_eq!(incoming.greeting.data, b"hello");
    assert_eq!(text(&control), "locked");
    within(HANGS, move || {
        assert!(matches!(incoming.port.try_recv(), Err(TryRecvError::Empty)));
        drop((incoming, listener));
    });
    fs::remove_dir_all(&folder).expect("the folder");
}

/// A role: connects to the listener of the name that comes, and locks the memory file that the listener has made.
fn client() {
    let control = parent_port().expect("a port");
    let name = text(&control);
    let options = ConnectOptions::new().timeout(PATIENCE).channel(ChannelOptions::new().capacity(LEN));
    let (_port, segment) = newest_memory(|| options.connect(&name, b"hello").expect("a listener"));
    hold_lock(segment);
    control.post_message(b"locked", []).expect("room");
    while control.recv().is_ok() {}
}

/// Uses what came with a message in every way that touches its memory, and posts it on.
fn use_and_drop(mut message: Message) {
    for port in message.ports.drain(..) {
        assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
        let _name = format!("{port:?}"); // the name of its memory file
        drop(hop(port));
    }
    let (a, b) = pair();
    for buffer in message.buffers.drain(..) {
        buffer.write_at(100, b"pixels").expect("a buffer");
        let buffer = buffer.freeze().expect_err("a received buffer");
        assert!(matches!(buffer.kind, FreezeErrorKind::Received), "{buffer:?}");
        a.post_message(b"", [buffer.into_inner().into()]).expect("room");
        let mut pixels = [0; 6];
        b.recv().expect("a message").buffers[0].read_at(100, &mut pixels).expect("a buffer");
        assert_eq!(&pixels, b"pixels");
    }
    for buffer in message.shared.drain(..) {
        buffer.write_at(100, b"ours").expect("a buffer");
        a.post_message(b"", [buffer.clone().into()]).expect("room");
        let mut ours = [0; 4];
        b.recv().expect("a message").shared[0].read_at(100, &mut ours).expect("a buffer");
        assert_eq!(&ours, b"ours");
        buffer.atomic_u64(0).expect("a word").store(1, Ordering::Release);
    }
}

/// A role: posts the thing that each message names, while it holds the lock of the thing's memory file.
fn locker() {
    let control = parent_port().expect("a port");
    while let Ok(message) = control.recv() {
        let name = message.data;
        match name.as_slice() {
            b"a port" => {
                let ((a, b), file) = newest_memory(|| pair_of(LEN));
                hold_lock(file);
                control.post_message(&name, [b.into()]).expect("room");
                std::mem::forget(a);
            }
            b"a buffer" => {
                let (buffer, file) = newest_memory(|| TransferBuffer::new(LEN).expect("memory"));
                seal(&file);
                hold_lock(file);
                control.post_message(&name, [buffer.into()]).expect("room");
            }
            b"a port with a buffer" => {
                let (a, b) = pair();
                let (buffer, file) = newest_memory(|| TransferBuffer::new(LEN).expect("memory"));
                a.post_message(b"", [buffer.into()]).expect("room");
                drop(b.recv().expect("a message"));
                hold_lock(file);
                control.post_message(&name, [b.into()]).expect("room");
                std::mem::forget(a);
            }
            b"a shared buffer" => {
                let (buffer, file) = newest_memory(|| SharedBuffer::new(LEN).expect("memory"));
                hold_lock(file);
                control.post_message(&name, [buffer.into()]).expect("room");
            }
            _ => unreachable!("a name of the list"),
        }
    }
}

/// Sets the last seal. A post would set it, and wait for the lock that this process holds.
fn seal(file: &File) {
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).expect("a seal");
}

/// Holds the inode lock of `file` from here on, by a write(2) whose source never arrives; or again and again, by long
/// writes of several threads, where userfaultfd(2) is not permitted.
fn hold_lock(file: File) {
    match stuck_page() {
        Ok((mut faults, page)) => {
            thread::spawn(move || write_from(&file, page, 4096, 0));
            // The kernel reports the fault once the write waits, with the lock held.
            faults.read_exact(&mut [0; 32]).expect("a fault");
            std::mem::forget(faults);
        }
        Err(errno) => {
            println!("skipped: the lock is held in turns only, without userfaultfd: {errno}");
            let len = file.metadata().expect("a file").len() as usize - 4096;
            for _ in 0..4 {
                let file = file.try_clone().expect("a descriptor");
                thread::spawn(move || {
                    let zeroes = vec![0_u8; len];
                    while file.write_at(&zeroes, 4096).is_ok() {}
                });
            }
        }
    }
}

/// The address of a page whose faults wait for the reader of the returned file, who never resolves them.
#[allow(unsafe_code)]
fn stuck_page() -> Result<(File, usize), Errno> {
    const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
    const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
    // SAFETY: takes no pointers.
    let faults = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
    // SAFETY: the descriptor is new, and this is its only owner.
    let faults = unsafe { File::from_raw_fd(faults as RawFd) };
    let page = memmap2::MmapOptions::new().len(4096).map_anon().expect("a page");
    let address = page.as_ptr() as usize;
    std::mem::forget(page);
    let mut api = [0xaa_u64, 0, 0];
    // SAFETY: `api` has the layout that the call expects.
    Errno::result(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) })?;
    let mut range = [address as u64, 4096, 1, 0];
    // SAFETY: `range` has the layout that the call expects, and names a page that stays mapped and unused.
    Errno::result(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER, range.as_mut_ptr()) })?;
    Ok((faults, address))
}

#[allow(unsafe_code)]
fn write_from(file: &File, source: usize, len: usize, offset: i64) {
    // SAFETY: the kernel reads the source, which is mapped for `len` bytes; no reference to it is made.
    unsafe { libc::pwrite(file.as_raw_fd(), source as *const libc::c_void, len, offset) };
}

// The last seal is on a buffer's memory before the buffer leaves.

#[test]
fn a_buffer_leaves_with_all_its_seals() {
    let _alone = alone();
    let (attacker, victim) = Attacker::new(|| pair_with(ChannelOptions::new().max_capacity(1 << 20)));
    let seals = || {
        let file = descriptor_on(&attacker.lane);
        SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).expect("a memory file"))
    };
    let all = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    victim.post_message(b"", [buffer_of(b"pixels").into()]).expect("room");
    assert_eq!(seals() & all, all, "on a list");
    victim.post_message(b"", [victim.buffer(100_000).expect("memory").into()]).expect("room");
    assert_eq!(seals() & all, all, "to be recycled");
    victim.post_message(&vec![1; 400_000], []).expect("room");
    assert_eq!(seals() & all, all, "data that does not fit the ring");
    victim.reserve(300_000).expect("room").commit().expect("room");
    assert_eq!(seals() & all, all, "a reservation that does not fit the ring");
}

/// The only descriptor of the next packet on a lane that is no wake-up.
#[allow(unsafe_code)]
fn descriptor_on(lane: &impl AsRawFd) -> File {
    loop {
        let (mut bytes, mut control) = ([0; 16], cmsg_space!([RawFd; 4]));
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let packet = recvmsg::<()>(lane.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        let packet = packet.expect("a packet");
        if let Some(ControlMessageOwned::ScmRights(descriptors)) = packet.cmsgs().expect("whole control data").next() {
            assert_eq!(descriptors.len(), 1);
            // SAFETY: the kernel has just made the descriptor for this call, and this is its only owner.
            return unsafe { File::from_raw_fd(descriptors[0]) };
        }
    }
}

// Less memory than a buffer takes.

/// Bytes that the processes of a cage may have, 96 MiB.
const CAGE: usize = 96 << 20;
/// Bytes of a buffer that does not fit the cage, 160 MiB.
const LARGE: usize = 160 << 20;

#[test]
fn a_buffer_beyond_what_a_cgroup_leaves_is_an_error_and_no_signal() {
    let _alone = alone();
    let cage = match Cage::new(CAGE) {
        Ok(cage) => cage,
        Err(reason) => return println!("skipped: no memory cgroup can be made: {reason}"),
    };
    let (mut process, port) = Process::start("caged");
    cage.add(process.id());
    port.post_message(b"the door is shut", []).expect("room");
    process.succeeded();
    assert_eq!(port.recv().expect("an answer").data, b"all of it");
    assert_eq!(end_of(&port), CloseReason::Closed);
}

/// A role: asks for more memory than the cage has.
fn caged() {
    let parent = parent_port().expect("a port");
    parent.recv().expect("a message");
    let (port, _peer) = pair();
    let refused = |result: Result<(), BufferError>| match result {
        Err(BufferError::ResourceExhausted(error)) => assert_eq!(error.raw_os_error(), Some(Errno::ENOMEM as i32)),
        other => panic!("{other:?}"),
    };
    let name = format!("caged-{}", std::process::id());
    for round in 0..2 {
        // The second time every mapping is allocated at once.
        if round == 1 && geteuid().is_root() {
            mlockall(MlockAllFlags::MCL_FUTURE).expect("root can lock memory");
        }
        refused(TransferBuffer::new(LARGE).map(drop));
        refused(SharedBuffer::new(LARGE).map(drop));
        refused(port.buffer(LARGE).map(drop));
        let sparse = File::from(tools::file_of(b""));
        sparse.set_len(LARGE as u64).expect("a sparse file");
        refused(FrozenBuffer::from_file(&sparse).map(drop));
        let reserved = port.reserve(LARGE).map(drop);
        assert!(matches!(reserved, Err(PostDataError::ResourceExhausted(_))), "{reserved:?}");
        let named = SharedBuffer::create_named(&name, LARGE);
        assert!(matches!(named, Err(NamedBufferError::ResourceExhausted(_))), "{named:?}");
        // What there is, in pieces, to the end. The pages are used, so the memory is there.
        let mut pieces = Vec::new();
        loop {
            match TransferBuffer::new(17 << 20) {
                Ok(piece) => pieces.push(piece),
                Err(error) => break refused(Err(error)),
            }
            pieces.iter().for_each(|piece| piece.write_at(LEN, b"used").expect("a piece"));
            assert!(pieces.len() < 6, "the cage has no door");
        }
        assert!(pieces.len() >= 3, "round {round}: {} pieces", pieces.len());
    }
    parent.post_message(b"all of it", []).expect("room");
}

/// A memory cgroup, of either version. It is removed when this is dropped, after its processes.
struct Cage {
    folder: PathBuf,
}

impl Cage {
    fn new(limit: usize) -> Result<Self, String> {
        let name = format!("messageport-test-{}", std::process::id());
        let groups = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path);
        let (root, limits) = match own {
            Some(own) => {
                let root = format!("/sys/fs/cgroup/memory{own}");
                (root, ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"])
            }
            None => {
                let root = "/sys/fs/cgroup".to_owned();
                // The root group may have both processes and groups. An error shows in the first write below.
                let _ = fs::write(format!("{root}/cgroup.subtree_control"), "+memory");
                (root, ["memory.max", "memory.swap.max"])
            }
        };
        let folder = Path::new(&root).join(name);
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let cage = Self { folder };
        let [memory, swap] = limits.map(|name| cage.folder.join(name));
        fs::write(&memory, limit.to_string()).map_err(|error| format!("{}: {error}", memory.display()))?;
        // Version 1 counts memory and swap together.
        let no_swap = if own.is_some() { limit } else { 0 };
        let has_swap = fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1);
        match fs::write(&swap, no_swap.to_string()) {
            Err(error) if has_swap => Err(format!("{}: {error}", swap.display())),
            _ => Ok(cage),
        }
    }

    fn add(&self, process: u32) {
        fs::write(self.folder.join("cgroup.procs"), process.to_string()).expect("a process can be moved to the cage");
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder); // a leftover is empty and costs nothing
    }
}

// Locked memory.

#[test]
fn ports_cost_what_is_touched_in_a_process_that_locks_its_memory() {
    let _alone = alone();
    play("locked in memory");
}

/// A role that locks all memory that it will map.
fn locked_in_memory() {
    const MIB: usize = 1 << 20;
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("a limit");
    if !geteuid().is_root() && limit < 1 << 30 {
        return println!("skipped: this user may lock {limit} bytes");
    }
    if let Err(errno) = mlockall(MlockAllFlags::MCL_FUTURE) {
        return println!("skipped: memory cannot be locked: {errno}");
    }
    let before = status("VmRSS:");
    let locked = status("VmLck:");
    // Both ends of a pair with the largest rings. One is received anew.
    let (a, b) = pair_of(64 * MIB);
    let b = hop(b);
    assert_entangled(&a, &b);
    assert!(status("VmRSS:") < before + 8 * MIB, "{} bytes of it are resident", status("VmRSS:") - before);
    assert!(status("VmLck:") >= locked + 128 * MIB, "what is touched is locked");
    drop((a, b));
    // A queue that grows.
    let (a, b) = tools::growing_pair(16 * MIB, 64 * MIB);
    let mut posted = 0;
    while a.queued().capacity < 32 * MIB {
        a.post_message(&vec![1; MIB], []).expect("room");
        posted += 1;
        assert!(posted < 40, "the queue does not grow");
    }
    for _ in 0..posted {
        assert_eq!(b.recv().expect("a message").data.len(), MIB);
    }
    // The first ring, which is full, and the next one of 32 MiB.
    assert!(status("VmRSS:") < before + 24 * MIB, "{} bytes are resident", status("VmRSS:") - before);
}

/// A number of bytes in the status of this process.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let line = status.lines().find(|line| line.starts_with(name)).expect(name);
    line.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") << 10
}
