//! Shared buffers with a name.

mod tools;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use messageport::{BadSegment, NamedBufferError, PostErrorKind, SharedBuffer, TransferRef, parent_port};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid};

use tools::child::{Process, Role, play};
use tools::ledger::Ledger;
use tools::{PATIENCE, pair, sandbox, text};

const ROLES: &[Role] = &[
    ("owner", owner),
    ("user", user),
    ("poor", poor),
    ("small", small),
    ("refused", refused),
    ("no shared memory", no_shared_memory),
    ("other user", other_user),
    ("ledger", ledger),
];

/// A name that no other test uses, and its path.
fn name(test: &str) -> (String, PathBuf) {
    let name = format!("test-{test}-{}", std::process::id());
    let path = PathBuf::from(format!("/dev/shm/messageport.{name}"));
    (name, path)
}

#[track_caller]
#[test]
fn two_processes_share_a_buffer_without_a_port() {
    let (name, path) = name("two");
    let buffer = SharedBuffer::create_named(&name, 100_003).expect("a new name");
    assert_eq!(buffer.len(), 100_003);
    assert!(buffer.to_vec().expect("a buffer of this process").iter().all(|byte| *byte == 0));
    buffer.write_at(99_999, b"here").expect("inside");
    let metadata = fs::metadata(&path).expect("a buffer of this name");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert!(metadata.blocks() * 512 >= 100_003 + 4096, "its memory is not allocated");
    let (mut process, port) = Process::start("user");
    port.post_message(name.as_bytes(), []).expect("room");
    assert_eq!(text(&port), "done");
    let mut seen = [0; 5];
    buffer.read_at(0, &mut seen).expect("inside");
    assert_eq!((&seen, buffer.atomic_u64(8).expect("a word").load(Ordering::Acquire)), (b"there", 7));
    process.succeeded();
    assert!(path.exists(), "a user has removed the name");
    drop(buffer);
    assert!(!path.exists());
}

fn user() {
    let port = parent_port().expect("a port");
    let buffer = SharedBuffer::open_named(&text(&port), 100_003).expect("a buffer of this name");
    let mut seen = [0; 4];
    buffer.read_at(99_999, &mut seen).expect("inside");
    assert_eq!(&seen, b"here");
    buffer.write_at(0, b"there").expect("inside");
    buffer.atomic_u64(8).expect("a word").store(7, Ordering::Release);
    drop(buffer);
    port.post_message(b"done", []).expect("a peer");
}

#[test]
fn a_name_is_created_once_and_goes_with_its_owner() {
    let (name, path) = name("once");
    let buffer = SharedBuffer::create_named(&name, 100).expect("a new name");
    assert!(matches!(SharedBuffer::create_named(&name, 100), Err(NamedBufferError::Exists)));
    let clone = buffer.clone();
    let user = SharedBuffer::open_named(&name, 0).expect("a buffer of this name");
    drop(buffer);
    assert!(path.exists(), "the name goes before the owner's last clone");
    drop(clone);
    assert!(!path.exists());
    assert!(matches!(SharedBuffer::open_named(&name, 0), Err(NamedBufferError::Missing)));
    // A user keeps the memory, and does not affect the next buffer of that name.
    user.write_at(0, b"kept").expect("inside");
    let next = SharedBuffer::create_named(&name, 50).expect("the name is free");
    assert_eq!(next.len(), 50);
    assert_eq!(&user.to_vec().expect("a buffer of this process")[..4], b"kept");
    drop(user);
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
}

#[test]
fn a_name_can_be_removed_by_a_call() {
    let (name, path) = name("call");
    assert!(matches!(SharedBuffer::remove_name(&name), Err(NamedBufferError::Missing)));
    let first = SharedBuffer::create_named(&name, 100).expect("a new name");
    SharedBuffer::remove_name(&name).expect("a buffer of this name");
    assert!(!path.exists());
    first.write_at(0, b"kept").expect("inside");
    let second = SharedBuffer::create_named(&name, 100).expect("the name is free");
    // The drop of the first owner leaves the name to the second.
    drop(first);
    assert!(path.exists(), "the second owner's name is removed by the first");
    SharedBuffer::open_named(&name, 100).expect("the second buffer");
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_killed_owner_leaves_the_name_and_the_memory_of_its_users() {
    let (name, path) = name("killed");
    let (mut process, port) = Process::start("owner");
    port.post_message(name.as_bytes(), []).expect("room");
    assert_eq!(text(&port), "made");
    let user = SharedBuffer::open_named(&name, 100).expect("a buffer of this name");
    process.kill();
    assert!(path.exists());
    assert_eq!(&user.to_vec().expect("a buffer of this process")[..8], b"the last");
    // The buffer can still be opened, and the name is in use until it is removed.
    assert_eq!(SharedBuffer::open_named(&name, 100).expect("a buffer of this name").len(), 100);
    assert!(matches!(SharedBuffer::create_named(&name, 100), Err(NamedBufferError::Exists)));
    SharedBuffer::remove_name(&name).expect("a buffer of this name");
    drop(SharedBuffer::create_named(&name, 100).expect("the name is free"));
    assert_eq!(&user.to_vec().expect("a buffer of this process")[..8], b"the last");
    assert!(!path.exists());
}

fn owner() {
    let port = parent_port().expect("a port");
    let buffer = SharedBuffer::create_named(&text(&port), 100).expect("a new name");
    buffer.write_at(0, b"the last").expect("inside");
    port.post_message(b"made", []).expect("a peer");
    let _ = port.recv_timeout(PATIENCE); // until the process is killed
}

#[test]
fn an_invalid_name_is_refused() {
    let long = "x".repeat(241);
    for bad in ["", "/", "a/b", "/a", "../a", "a\0b", &long] {
        assert!(matches!(SharedBuffer::create_named(bad, 1), Err(NamedBufferError::BadName)), "{bad:?}");
        assert!(matches!(SharedBuffer::open_named(bad, 1), Err(NamedBufferError::BadName)), "{bad:?}");
        assert!(matches!(SharedBuffer::remove_name(bad), Err(NamedBufferError::BadName)), "{bad:?}");
    }
    let longest = format!("{:x<240}", std::process::id());
    for good in [&longest, ".", "..", "with spaces", "ümläut"] {
        let good = if good.len() == 240 { good.to_owned() } else { format!("{good}{}", std::process::id()) };
        drop(SharedBuffer::create_named(&good, 0).expect("a good name"));
    }
}

/// A file at the path of a named buffer. It is removed when this is dropped.
struct Forged {
    name: String,
    path: PathBuf,
    file: File,
}

impl Forged {
    fn new(test: &str, bytes: &[u8]) -> Self {
        let (name, path) = name(test);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path).expect("a free name");
        file.set_permissions(Permissions::from_mode(0o600)).expect("a file of this process");
        file.write_all_at(bytes, 0).expect("room");
        Self { name, path, file }
    }

    fn open(&self) -> NamedBufferError {
        SharedBuffer::open_named(&self.name, 0).expect_err("not a buffer")
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The header of a named buffer of `len` bytes.
fn header(len: u64) -> Vec<u8> {
    let mut bytes = b"msgpnam\0".to_vec();
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(4096_u32.to_ne_bytes());
    bytes.extend(len.to_ne_bytes());
    bytes.resize(4096 + len as usize, 0);
    bytes
}

#[test]
fn a_file_that_is_no_buffer_is_an_error_with_its_reason() {
    let good = Forged::new("good", &header(10));
    assert_eq!(SharedBuffer::open_named(&good.name, 10).expect("a forged buffer that is valid").len(), 10);
    let error = SharedBuffer::open_named(&good.name, 11).expect_err("a buffer that is too small");
    assert!(matches!(error, NamedBufferError::TooSmall { len: 10, min_len: 11 }), "{error:?}");
    // The name is in use nevertheless.
    assert!(matches!(SharedBuffer::create_named(&good.name, 10), Err(NamedBufferError::Exists)));

    assert!(matches!(Forged::new("empty", b"").open(), NamedBufferError::Unfinished));
    assert!(matches!(Forged::new("zeroes", &[0; 5000]).open(), NamedBufferError::Unfinished));
    let sparse = Forged::new("sparse", &header(10));
    sparse.file.set_len(1 << 40).expect("a size");
    assert!(matches!(sparse.open(), NamedBufferError::Unfinished));
    let short = Forged::new("short", &header(0)[..4095]).open();
    assert!(matches!(short, NamedBufferError::NotABuffer(BadSegment::WrongSize)), "{short:?}");
    let text = Forged::new("text", &[b'x'; 5000]).open();
    assert!(matches!(text, NamedBufferError::NotABuffer(BadSegment::NotASegment)), "{text:?}");
    let mut version = header(10);
    version[8] = 2;
    let version = Forged::new("version", &version).open();
    let expected = BadSegment::Version { found: 2, expected: 1 };
    assert!(matches!(version, NamedBufferError::NotABuffer(bad) if bad == expected), "{version:?}");
    let mut longer = header(10);
    longer.push(0);
    let longer = Forged::new("longer", &longer).open();
    assert!(matches!(longer, NamedBufferError::NotABuffer(BadSegment::BadConstants)), "{longer:?}");
    for mode in [0o660, 0o606, 0o640, 0o604] {
        let readable = Forged::new("readable", &header(10));
        readable.file.set_permissions(Permissions::from_mode(mode)).expect("a file of this process");
        assert!(matches!(readable.open(), NamedBufferError::NotOurs), "mode {mode:o}");
    }
}

#[test]
fn a_named_buffer_is_not_posted() {
    let (name, _) = name("posted");
    let buffer = SharedBuffer::create_named(&name, 10).expect("a new name");
    let (a, b) = pair();
    let error =
        a.post_message_detaching(b"", &[TransferRef::Shared(&buffer)]).expect_err("a buffer that is not sealed");
    assert!(matches!(error, PostErrorKind::Unusable { index: 0 }), "{error:?}");
    let mut error = a
        .post_message(b"", [SharedBuffer::new(1).expect("memory").into(), buffer.into()])
        .expect_err("a named buffer on a list");
    assert!(matches!(error.kind, PostErrorKind::Unusable { index: 1 }) && error.get_mut().len() == 2);
    drop((b, error));
}

#[test]
fn a_name_of_another_user_is_refused() {
    if !geteuid().is_root() {
        return println!("skipped: only root can be another user");
    }
    play("other user");
}

fn other_user() {
    let (name, path) = name("other");
    let (root, nobody) = (geteuid(), Uid::from_raw(65534));
    let buffer = SharedBuffer::create_named(&name, 10).expect("a new name");
    let group = nix::unistd::getegid();
    setegid(Gid::from_raw(65534)).expect("root may");
    seteuid(nobody).expect("root may");
    assert!(matches!(SharedBuffer::open_named(&name, 10), Err(NamedBufferError::NotOurs)));
    assert!(matches!(SharedBuffer::create_named(&name, 10), Err(NamedBufferError::Exists)));
    assert!(matches!(SharedBuffer::remove_name(&name), Err(NamedBufferError::NotOurs)));
    let theirs = SharedBuffer::create_named(&format!("{name}-theirs"), 10).expect("a new name");
    seteuid(root).expect("back to root");
    setegid(group).expect("back to the group");
    // Root could open the file, and must not trust it.
    assert!(matches!(SharedBuffer::open_named(&format!("{name}-theirs"), 10), Err(NamedBufferError::NotOurs)));
    drop((buffer, theirs));
    assert!(!path.exists());
}

#[test]
fn a_shortage_of_memory_is_an_error_and_leaves_no_name() {
    play("poor");
}

fn poor() {
    let (name, path) = name("poor");
    let with_limit = |resource, limit, work: &dyn Fn() -> Result<SharedBuffer, NamedBufferError>| {
        let (soft, hard) = getrlimit(resource).expect("a limit");
        setrlimit(resource, limit, hard).expect("the limit can be lowered");
        let result = work();
        setrlimit(resource, soft, hard).expect("the limit can be raised");
        assert!(matches!(result, Err(NamedBufferError::ResourceExhausted(_))), "{resource:?}: {result:?}");
    };
    let before = Ledger::now();
    let create = || SharedBuffer::create_named(&name, 64 << 20);
    with_limit(Resource::RLIMIT_FSIZE, 1 << 20, &create);
    assert!(!path.exists());
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = statm.split(' ').next().expect("a size").parse().expect("a number");
    with_limit(Resource::RLIMIT_AS, pages * 4096 + (8 << 20), &create);
    assert!(!path.exists());
    let used = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count() as u64;
    with_limit(Resource::RLIMIT_NOFILE, used.min(3), &create);
    assert!(!path.exists());
    for len in [usize::MAX, 1 << 62, 1 << 41, 1 << 40] {
        let result = SharedBuffer::create_named(&name, len);
        assert!(matches!(result, Err(NamedBufferError::ResourceExhausted(_))), "{len}: {result:?}");
        assert!(!path.exists());
    }
    let buffer = create().expect("no limit");
    let open = || SharedBuffer::open_named(&name, 1);
    with_limit(Resource::RLIMIT_AS, pages * 4096 + (72 << 20), &open);
    with_limit(Resource::RLIMIT_NOFILE, used.min(3), &open);
    drop(open().expect("no limit"));
    drop(buffer);
    before.assert_restored("after the shortages");
}

#[test]
fn a_full_file_system_is_an_error_and_no_signal() {
    play("small");
}

/// A role with a `/dev/shm` of one megabyte, for this process only.
fn small() {
    let private = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>))
        .and_then(|()| mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("size=1m")));
    if let Err(errno) = private {
        return println!("skipped: no file system of its own for this process: {errno}");
    }
    let (name, path) = name("small");
    let result = SharedBuffer::create_named(&name, 2 << 20);
    assert!(matches!(result, Err(NamedBufferError::ResourceExhausted(_))), "{result:?}");
    assert!(!path.exists());
    let buffer = SharedBuffer::create_named(&name, 900 << 10).expect("it fits");
    buffer.copy_from_slice(&vec![1; 900 << 10]).expect("allocated memory");
    assert!(matches!(SharedBuffer::create_named("next", 900 << 10), Err(NamedBufferError::ResourceExhausted(_))));
}

#[test]
fn a_refused_allocation_is_the_systems_reason() {
    play("refused");
}

/// A role in a sandbox that refuses fallocate(2): nobody else has the name.
fn refused() {
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let answer = |action: u32| instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let sandbox = sandbox::install(&[
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_fallocate as u32, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    if let Err(errno) = sandbox {
        return println!("SKIPPED: no seccomp here: {errno}");
    }
    let (name, path) = name("refused");
    let error = SharedBuffer::create_named(&name, 100).expect_err("no allocation");
    assert!(matches!(&error, NamedBufferError::ResourceExhausted(os) if os.raw_os_error() == Some(libc::EPERM)));
    assert!(!path.exists());
}

#[test]
fn a_system_without_shared_memory_is_told_apart_from_a_missing_name() {
    play("no shared memory");
}

/// A role without `/dev/shm`.
fn no_shared_memory() {
    let private = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>))
        .and_then(|()| mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), None::<&str>));
    if let Err(errno) = private {
        return println!("SKIPPED: no file system of its own for this process: {errno}");
    }
    let errors = [
        SharedBuffer::create_named("anything", 1).map(drop),
        SharedBuffer::open_named("anything", 1).map(drop),
        SharedBuffer::remove_name("anything"),
    ];
    for error in errors {
        assert!(matches!(error, Err(NamedBufferError::NoSharedMemory)), "{error:?}");
    }
}

#[test]
fn nothing_is_left_behind() {
    play("ledger");
}

fn ledger() {
    let before = Ledger::now();
    for round in 0..100 {
        let (name, path) = name(&format!("ledger-{round}"));
        let buffer = SharedBuffer::create_named(&name, 10_000).expect("a new name");
        let users: Vec<_> =
            (0..3).map(|_| SharedBuffer::open_named(&name, 10_000).expect("a buffer of this name")).collect();
        drop((users, buffer));
        assert!(!path.exists());
    }
    before.assert_restored("after creating and opening");
}
