//! The library under the system calls of docs/SYSTEM-CALLS.md, from which the filters of these tests are made: any
//! other call ends the process.
#![cfg(target_arch = "x86_64")] // the numbers of system calls, and some of their names, differ elsewhere

mod tools;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::thread;

use messageport::aio::AsyncPort;
use messageport::{
    ChannelOptions, Client, EventLoop, ListenOptions, MessageChannel, PortSet, RecvError, Server, SharedBuffer,
    TransferBuffer, connect, parent_port, spawn_with_port,
};
use nix::libc;

use tools::child::{Role, command, play};
use tools::{PATIENCE, buffer_of, end_of, pair, sandbox, text};

const ROLES: &[Role] = &[
    ("channels", || under("Channels", channels)),
    ("loops", || under("Event loops and sets", loops)),
    ("tasks", || under("Tasks (feature `tokio`)", tasks)),
    ("meeting", || under("Meeting by name", meeting)),
    ("children", || under("Child processes", children)),
    ("child", || end_of_child()),
    ("named", || under("Named buffers", named)),
];

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SYSTEM-CALLS.md");

/// Names and numbers.
macro_rules! numbers {
    ($($name:ident = $number:ident),* $(,)?) => { &[$((stringify!($name), libc::$number)),*] };
}

/// Names that are in no section, or that libc does not define.
const OTHERS: [(&str, libc::c_long); 2] = [("cachestat", 451), ("alarm", libc::SYS_alarm)];

const NUMBERS: &[(&str, libc::c_long)] = numbers! {
    accept4 = SYS_accept4, access = SYS_access, arch_prctl = SYS_arch_prctl, bind = SYS_bind, brk = SYS_brk, chdir =
    SYS_chdir, chown = SYS_chown, clock_gettime = SYS_clock_gettime, clock_nanosleep = SYS_clock_nanosleep, clone =
    SYS_clone, clone3 = SYS_clone3, close = SYS_close, connect = SYS_connect, dup2 = SYS_dup2, dup3 = SYS_dup3,
    epoll_create1 = SYS_epoll_create1, epoll_ctl = SYS_epoll_ctl, epoll_wait = SYS_epoll_wait, eventfd2 = SYS_eventfd2,
    execve = SYS_execve, exit = SYS_exit, exit_group = SYS_exit_group, fallocate = SYS_fallocate, fchmod = SYS_fchmod,
    fchmodat = SYS_fchmodat, fcntl = SYS_fcntl, flock = SYS_flock, fstat = SYS_fstat, fstatfs = SYS_fstatfs, ftruncate =
    SYS_ftruncate, futex = SYS_futex, getdents64 = SYS_getdents64, geteuid = SYS_geteuid, getpeername = SYS_getpeername,
    getpid = SYS_getpid, getrandom = SYS_getrandom, getrusage = SYS_getrusage, getsockname = SYS_getsockname, getsockopt
    = SYS_getsockopt, gettid = SYS_gettid, listen = SYS_listen, lseek = SYS_lseek, madvise = SYS_madvise, memfd_create =
    SYS_memfd_create, mincore = SYS_mincore, mkdir = SYS_mkdir, mlock2 = SYS_mlock2, mmap = SYS_mmap, mprotect =
    SYS_mprotect, mremap = SYS_mremap, munmap = SYS_munmap, newfstatat = SYS_newfstatat, openat = SYS_openat, pidfd_open
    = SYS_pidfd_open, pipe2 = SYS_pipe2, poll = SYS_poll, prctl = SYS_prctl, pread64 = SYS_pread64, prlimit64 =
    SYS_prlimit64, pwrite64 = SYS_pwrite64, read = SYS_read, readlink = SYS_readlink, recvfrom = SYS_recvfrom, recvmsg =
    SYS_recvmsg, restart_syscall = SYS_restart_syscall, rseq = SYS_rseq, rt_sigaction = SYS_rt_sigaction, rt_sigprocmask
    = SYS_rt_sigprocmask, rt_sigreturn = SYS_rt_sigreturn, sched_getaffinity = SYS_sched_getaffinity, sched_yield =
    SYS_sched_yield, sendmsg = SYS_sendmsg, set_robust_list = SYS_set_robust_list, set_tid_address =
    SYS_set_tid_address, setsockopt = SYS_setsockopt, shutdown = SYS_shutdown, sigaltstack = SYS_sigaltstack, socket =
    SYS_socket, socketpair = SYS_socketpair, statx = SYS_statx, tgkill = SYS_tgkill, timerfd_create =
    SYS_timerfd_create, timerfd_settime = SYS_timerfd_settime, unlink = SYS_unlink, vfork = SYS_vfork, wait4 =
    SYS_wait4, waitid = SYS_waitid, write = SYS_write,
};

/// The system calls that the page lists in the section of this title: the first words, in backticks, of its tables.
fn section(title: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(PAGE).expect("the page");
    let start = page.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let section = &page[start + 4..];
    let section = &section[..section.find("\n## ").unwrap_or(section.len())];
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| &row[..row.find(" |").expect("a cell")]);
    cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned()).collect()
}

/// The titles of the sections that list system calls.
const SECTIONS: [&str; 7] = [
    "Every program",
    "Channels",
    "Event loops and sets",
    "Tasks (feature `tokio`)",
    "Meeting by name",
    "Child processes",
    "Named buffers",
];

/// Allows the system calls of every program, of channels, and of this section, and no other, to this process.
fn confine(title: &str) -> bool {
    let mut allowed: BTreeSet<String> = [SECTIONS[0], SECTIONS[1], title].into_iter().flat_map(section).collect();
    allowed.insert("alarm".to_owned()); // what a role of these tests does first
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let answer = |action: u32| instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for name in &allowed {
        let (_, number) =
            NUMBERS.iter().chain(&OTHERS).find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}?"));
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32, 0, 1));
        filter.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    filter.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    match sandbox::install(&filter) {
        Ok(()) => true,
        Err(errno) => {
            println!("SKIPPED: no seccomp here: {errno}");
            false
        }
    }
}

fn under(title: &str, body: fn()) {
    if confine(title) {
        body();
    }
}

/// Everything that a channel does within a process: also growing, waiting, buffers, and threads.
fn channels() {
    let MessageChannel { port1, port2 } = ChannelOptions::new().capacity(4096).create().expect("resources");
    for _ in 0..100 {
        port1.post_data([0; 500]).expect("room");
    }
    for _ in 0..100 {
        port2.recv().expect("a message");
    }
    let frozen = buffer_of(b"frozen").freeze().expect("memory");
    let file = File::open("/etc/passwd").expect("a file");
    let passwd = messageport::FrozenBuffer::from_file(&file).expect("a file");
    let shared = SharedBuffer::new(8).expect("memory");
    let list = [
        pair().0.into(),
        TransferBuffer::new(32 << 20).expect("memory").into(),
        port1.buffer(5000).expect("memory").into(),
        frozen.into(),
        passwd.into(),
        shared.into(),
        std::os::fd::OwnedFd::from(file).into(),
    ];
    port1.post_message(vec![1; 100_000], list).expect("room");
    let waiting = thread::spawn(move || {
        let message = port2.recv_timeout(PATIENCE).expect("a message");
        port2.post_data_timeout(&message.data, PATIENCE).expect("room");
        assert!(port2.recv().is_err());
    });
    assert_eq!(port1.recv_timeout(PATIENCE).expect("the answer").data.len(), 100_000);
    thread::sleep(std::time::Duration::from_millis(5));
    port1.close();
    waiting.join().expect("no panic");
    let (a, b) = pair();
    a.interrupter().expect("resources").interrupt();
    assert!(matches!(a.recv(), Err(RecvError::Interrupted)));
    let renewed = a.renew().expect("resources");
    drop((renewed, b));
    let (client, server) = pair();
    let answering = thread::spawn(move || Server::new(server).serve(|_| ()).expect("the client closes"));
    Client::new(client).call_data("a request").expect("an answer");
    answering.join().expect("no panic");
    messageport::raise_descriptor_limit(64).expect("a limit");
}

fn loops() {
    let (a, b) = pair();
    let events = EventLoop::new().expect("resources");
    let handle = events.add(b).expect("resources");
    handle.set_onmessage(|port, event| port.post_data(&event.data).expect("room"));
    let remote = events.handle();
    let waiting = thread::spawn(move || {
        a.post_data("hello").expect("room");
        assert_eq!(text(&a), "hello");
        remote.post_task(|_| ()).expect("a loop");
        a.close();
    });
    events.set_timeout(std::time::Duration::from_millis(5), |_| ());
    drop(handle);
    events.run().expect("resources");
    waiting.join().expect("no panic");
    let (a, b) = pair();
    let mut set = PortSet::new().expect("resources");
    set.add(b).expect("resources");
    let posting = thread::spawn(move || a.post_data("hello").expect("room"));
    set.wait_timeout(PATIENCE).expect("resources").expect("a message");
    posting.join().expect("no panic");
}

fn tasks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads").block_on(async {
        let (a, b) = pair();
        let (mut a, mut b) = (AsyncPort::new(a).expect("resources"), AsyncPort::new(b).expect("resources"));
        let receiving = tokio::spawn(async move { b.recv().await.expect("a message").data });
        tokio::task::yield_now().await;
        a.post_data_wait("hello").await.expect("room");
        assert_eq!(receiving.await.expect("no panic"), b"hello");
    });
}

fn meeting() {
    let options = ListenOptions::new().mode(0o660).remove_on_signal(true);
    let listener = options.bind("sandboxed").expect("a name");
    let name = listener.path().to_str().expect("a path of text").to_owned();
    let client = thread::spawn(move || text(&connect(&name, b"hello").expect("a listener")));
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    incoming.port.post_data("welcome").expect("room");
    assert_eq!(client.join().expect("no panic"), "welcome");
}

fn children() {
    let (ours, theirs) = pair();
    let mut child = spawn_with_port(&mut command("child"), theirs).expect("a child");
    assert_eq!(text(&ours), "from the child");
    end_of(&ours);
    child.wait().expect("a child");
}

fn end_of_child() {
    parent_port().expect("a port").post_data("from the child").expect("room");
}

fn named() {
    let name = format!("sandboxed-{}", std::process::id());
    let buffer = SharedBuffer::create_named(&name, 100).expect("memory");
    let other = SharedBuffer::open_named(&name, 100).expect("a buffer");
    drop((buffer, other));
}

#[test]
fn each_feature_works_with_the_system_calls_of_its_section() {
    for role in ["channels", "loops", "tasks", "meeting", "children", "named"] {
        println!("{role}");
        play(role);
    }
}

#[test]
fn the_profile_has_the_system_calls_of_all_sections() {
    let page = fs::read_to_string(PAGE).expect("the page");
    let start = page.find("```json\n").expect("the profile");
    let profile = &page[start..start + page[start..].find("\n```\n").expect("the end of the profile")];
    let names = &profile[profile.find("\"names\": [").expect("names")..];
    let names = &names[names.find('[').expect("a list") + 1..names.find(']').expect("the end of the list")];
    let names: BTreeSet<String> = names.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
    assert_eq!(names, SECTIONS.into_iter().flat_map(section).collect());
}
