//! Names of listeners: where they lead, which users meet by them, and what a listener leaves behind.

mod tools;

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use messageport::{
    ConnectError, ConnectOptions, ListenError, ListenOptions, Listener, NameError, connect, parent_port,
    spawn_with_port,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::{Pid, getegid, geteuid};

use tools::child::{Process, Role, command};
use tools::folder::Folder;
use tools::{PATIENCE, assert_entangled, end_of, pair, text};

const ROLES: &[Role] = &[
    ("names", names),
    ("unsafe directory", unsafe_directory),
    ("listen", listen_until_killed),
    ("activated", activated),
    ("stranger", stranger),
];

/// The environment variable of a role with a path.
const PATH: &str = "MESSAGEPORT_TEST_PATH";
/// The environment variable of a role that listens: whether a signal removes the files.
const ON_SIGNAL: &str = "MESSAGEPORT_TEST_ON_SIGNAL";

fn rights(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").mode() & 0o7777
}

fn private_folder(path: &Path) {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(path).expect("a folder");
}

// Where names lead.

/// Puts two folders in the place of `/run` and `/tmp` for this process. False, with a line of output, if this user may
/// not do that.
fn has_own_directories(folder: &Path) -> bool {
    let (user, group) = (geteuid(), getegid());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        eprintln!("skipped: this user may make no namespaces: {errno}");
        return false;
    }
    fs::write("/proc/self/setgroups", "deny").expect("a new namespace");
    fs::write("/proc/self/uid_map", format!("{user} {user} 1")).expect("a new namespace");
    fs::write("/proc/self/gid_map", format!("{group} {group} 1")).expect("a new namespace");
    for place in ["run", "tmp"] {
        let from = folder.join(place);
        mount(Some(&from), &Path::new("/").join(place), None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a mount");
    }
    true
}

/// A role: the name `name` leads to the directory in the environment, whatever the other variables are.
fn names() {
    let folder = PathBuf::from(std::env::var_os(PATH).expect("a variable"));
    if !has_own_directories(&folder) {
        return;
    }
    let (runtime, fallback) = (format!("/run/user/{}", geteuid()), format!("/tmp/messageport-{}", geteuid()));
    let has_runtime = Path::new(&runtime).exists();
    let directory = if has_runtime { Path::new(&runtime).join("messageport") } else { PathBuf::from(&fallback) };

    assert!(matches!(connect("name", b""), Err(ConnectError::NoListener(path)) if path == directory.join("name")));
    assert!(!directory.exists(), "a client makes no directory");
    let listener = Listener::bind("name").expect("a free name");
    assert_eq!(listener.path(), directory.join("name"));
    assert_eq!((rights(&directory), rights(listener.path())), (0o700, 0o600));
    assert_eq!(rights(&directory.join("name.lock")), 0o600);
    assert!(matches!(Listener::bind("name"), Err(ListenError::InUse(_))));
    // A process with other variables meets this one: both are of the same user.
    let client = thread::spawn(|| connect("name", b"hello").expect("a listener"));
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    assert_eq!(incoming.greeting.data, b"hello");
    assert_entangled(&incoming.port, &client.join().expect("no panic"));
    for variable in ["XDG_RUNTIME_DIR", "TMPDIR"] {
        for value in ["", "somewhere", "/nowhere", "/run", "/tmp"] {
            #[allow(unsafe_code)]
            // SAFETY: this is the only thread of the process.
            unsafe {
                std::env::set_var(variable, value);
            }
            assert!(matches!(Listener::bind("name"), Err(ListenError::InUse(_))), "{variable}={value}");
        }
    }
    // A listener that started when there was no /run/user/UID is found, and keeps its name.
    if !has_runtime {
        private_folder(Path::new(&runtime));
        assert!(matches!(Listener::bind("name"), Err(ListenError::InUse(_))));
        let client = thread::spawn(|| connect("name", b"").expect("a listener"));
        let incoming = listener.accept_timeout(PATIENCE).expect("a client");
        assert_entangled(&incoming.port, &client.join().expect("no panic"));
    }
    drop(listener);
    assert_eq!(fs::read_dir(&directory).expect("the directory").count(), 0);

    for invalid in ["", ".", "..", "a\0b", "name.lock", "two\nlines", "./two\nlines", "\x1b[2J", "a\u{85}b", "\x7f"] {
        assert!(matches!(Listener::bind(invalid), Err(ListenError::Name(NameError::Invalid))), "{invalid:?}");
        assert!(matches!(connect(invalid, b""), Err(ConnectError::Name(NameError::Invalid))), "{invalid:?}");
    }
    let long = "n".repeat(108);
    assert!(matches!(Listener::bind(&long), Err(ListenError::Name(NameError::TooLong(_)))));
    assert!(matches!(connect(&long, b""), Err(ConnectError::Name(NameError::TooLong(_)))));
}

#[test]
fn a_name_leads_to_the_same_private_directory_whatever_the_environment() {
    for has_runtime in [true, false] {
        let folder = Folder::new();
        let [run, tmp] = ["run", "tmp"].map(|place| folder.0.join(place));
        private_folder(&tmp);
        private_folder(&run.join("user"));
        if has_runtime {
            private_folder(&run.join(format!("user/{}", geteuid())));
        }
        let mut command = command("names");
        Process::run(command.env(PATH, &folder.0).env("XDG_RUNTIME_DIR", "/tmp").env("TMPDIR", "/run")).succeeded();
    }
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    for kind in ["group", "others", "symlink", "file"] {
        let folder = Folder::new();
        let tmp = folder.0.join("tmp");
        private_folder(&tmp);
        private_folder(&folder.0.join("run"));
        let directory = tmp.join(format!("messageport-{}", geteuid()));
        match kind {
            "symlink" => {
                private_folder(&tmp.join("elsewhere"));
                symlink("elsewhere", &directory).expect("a link");
            }
            "file" => drop(File::create(&directory).expect("a file")),
            _ => {
                fs::create_dir(&directory).expect("a folder");
                let mode = if kind == "group" { 0o710 } else { 0o701 };
                fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("rights");
            }
        }
        Process::run(command("unsafe directory").env(PATH, &folder.0)).succeeded();
    }
}

fn unsafe_directory() {
    if has_own_directories(Path::new(&std::env::var_os(PATH).expect("a variable"))) {
        assert!(matches!(Listener::bind("name"), Err(ListenError::Name(NameError::UnsafeDirectory(_)))));
        assert!(matches!(connect("name", b""), Err(ConnectError::Name(NameError::UnsafeDirectory(_)))));
    }
}

// What is left behind.

/// A role: listens on a path, and reports it over its port.
fn listen_until_killed() {
    let port = parent_port().expect("a port");
    let name = std::env::var(PATH).expect("a variable");
    let options = ListenOptions::new().remove_on_signal(std::env::var_os(ON_SIGNAL).is_some());
    let _listener = options.bind(&name).expect("a free name");
    let _second = options.bind(&format!("{name}-2")).expect("a free name");
    drop(options.bind(&format!("{name}-3")).expect("a free name"));
    port.post_message(b"listening", []).expect("room");
    loop {
        thread::park();
    }
}

/// Starts a listener and ends it by `signal`.
fn end_listener(name: &str, signal: Signal, on_signal: bool) {
    let (ours, theirs) = pair();
    let mut command = command("listen");
    if on_signal {
        command.env(ON_SIGNAL, "1");
    }
    let mut child = spawn_with_port(command.env(PATH, name), theirs).expect("a child");
    assert_eq!(text(&ours), "listening");
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("a child");
    let status = child.wait().expect("the end of the child");
    assert_eq!(status.signal(), Some(signal as i32), "the signal still ends the process");
}

/// Gives the signal its default action in this process and in those that it starts: nohup(1) has SIGHUP ignored.
fn set_default(ending: Signal) {
    #[allow(unsafe_code)]
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(ending, SigHandler::SigDfl) }.expect("a signal");
}

#[test]
fn a_signal_removes_the_files_of_listeners_that_ask_for_it() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        set_default(signal);
        let folder = Folder::new();
        end_listener(&folder.name("service"), signal, true);
        assert_eq!(folder.list(), [""; 0], "after {signal}");
        end_listener(&folder.name("service"), signal, false);
        assert_eq!(folder.list().len(), 4, "the handler is not installed unasked");
    }
}

#[test]
fn what_a_killed_listener_left_is_removed_by_a_client_that_finds_nobody() {
    let folder = Folder::new();
    let name = folder.name("service");
    end_listener(&name, Signal::SIGKILL, true);
    assert_eq!(folder.list().len(), 4, "two sockets with their locks");
    assert!(matches!(connect(&name, b""), Err(ConnectError::NoListener(_))));
    assert_eq!(folder.list().len(), 2, "the client removes what its name leads to");
    assert!(matches!(connect(&format!("{name}-2"), b""), Err(ConnectError::NoListener(_))));
    assert_eq!(folder.list(), [""; 0]);
    // A lock file alone, of a listener that was killed before it had a socket.
    File::create(format!("{name}.lock")).expect("a file");
    assert!(matches!(connect(&name, b""), Err(ConnectError::NoListener(_))));
    assert_eq!(folder.list(), [""; 0]);
    // What is not a listener's of this library stays.
    drop(UnixListener::bind(&name).expect("a socket"));
    assert!(connect(&name, b"").is_err());
    assert_eq!(folder.list(), ["service"]);
}

/// What a killed listener leaves.
fn leave_behind(name: &str) {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).expect("a socket");
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(name).expect("a path")).expect("a free path");
    File::create(format!("{name}.lock")).expect("a file");
}

#[test]
fn a_client_that_removes_what_was_left_does_not_disturb_a_listener_that_starts() {
    let folder = Folder::new();
    for round in 0..200 {
        let name = folder.name(&format!("service-{round}"));
        leave_behind(&name);
        let early: Vec<_> = (0..2)
            .map(|_| {
                (
                    name.clone(),
                    thread::spawn({
                        let name = name.clone();
                        move || ConnectOptions::new().timeout(PATIENCE).wait_for_listener(true).connect(&name, b"")
                    }),
                )
            })
            .collect();
        let listener = Listener::bind(&name).expect("the name is free, or about to be");
        for _ in &early {
            listener.accept_timeout(PATIENCE).expect("a client");
        }
        for (_, client) in early {
            client.join().expect("no panic").expect("a listener");
        }
        assert!(Path::new(&name).exists(), "the listener's socket was removed");
        assert!(Path::new(&format!("{name}.lock")).exists(), "the listener's lock file was removed");
    }
    assert_eq!(folder.list(), [""; 0]);
}

// Meeting early, other users, inherited sockets.

#[test]
fn a_client_can_wait_for_its_listener() {
    let folder = Folder::new();
    let name = folder.name("later");
    let options = ConnectOptions::new().wait_for_listener(true);
    let error = options.clone().timeout(Duration::from_millis(50)).connect(&name, b"").expect_err("nobody comes");
    assert!(matches!(error, ConnectError::NoListener(_)), "{error:?}");
    let waiting = {
        let (name, options) = (name.clone(), options.timeout(PATIENCE));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let of_task = runtime.block_on(options.connect_async(&name, b"task")).expect("a listener");
            (of_task.into_port(), options.connect(&name, b"thread").expect("a listener"))
        })
    };
    assert!(matches!(connect(&name, b""), Err(ConnectError::NoListener(_))), "by default a client does not wait");
    let listener = Listener::bind(&name).expect("a free name");
    let [task, thread] = [b"task".as_slice(), b"thread"].map(|greeting| {
        let incoming = listener.accept_timeout(PATIENCE).expect("a client");
        assert_eq!(incoming.greeting.data, greeting);
        incoming.port
    });
    let (of_task, of_thread) = waiting.join().expect("no panic");
    assert_entangled(&task, &of_task);
    assert_entangled(&thread, &of_thread);
}

#[test]
fn a_socket_has_the_mode_and_the_group_that_were_asked_for() {
    let folder = Folder::new();
    let name = folder.name("shared");
    let listener = ListenOptions::new().any_uid(true).mode(0o666).group(getegid().as_raw()).bind(&name);
    let listener = listener.expect("a free name");
    let found = fs::symlink_metadata(&name).expect("a socket");
    assert_eq!((rights(Path::new(&name)), found.gid()), (0o666, getegid().as_raw()), "whatever the umask");
    assert_eq!(rights(Path::new(&format!("{name}.lock"))), 0o600);
    drop(listener);
    assert!(matches!(ListenOptions::new().mode(0o1_0666).bind(&name), Err(ListenError::System(..))));
    assert_eq!(folder.list(), [""; 0], "a failure leaves nothing");
}

/// A role: as another user, finds out why there is no way to the listener.
fn stranger() {
    let name = std::env::var(PATH).expect("a variable");
    nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).expect("root may be anybody");
    let error = connect(&name, b"").expect_err("the socket is another user's");
    assert!(matches!(error, ConnectError::WrongUser(0)), "{error:?}");
}

#[test]
fn a_path_without_access_is_told_by_its_owner() {
    if !geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let folder = Folder::new();
    let name = folder.name("service");
    let _listener = Listener::bind(&name).expect("a free name");
    // No access to the directory, and then none to the socket.
    for mode in [0o700, 0o755] {
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(mode)).expect("rights");
        Process::run(command("stranger").env(PATH, &name)).succeeded();
    }
}

/// A role: accepts a client at the socket that it was given, and tells its greeting over the new port.
fn activated() {
    let listener = ListenOptions::new().listen_activated(Some("second")).expect("a listener").expect("a socket");
    assert_eq!(listener.path(), Path::new(&std::env::var_os(PATH).expect("a variable")));
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    incoming.port.post_message(&incoming.greeting.data, []).expect("room");
    assert!(ListenOptions::new().listen_activated(Some("third")).expect("no error").is_none());
    let file = File::open("/dev/null").expect("a file");
    assert!(matches!(ListenOptions::new().listen_at(&file), Err(ListenError::BadSocket)));
    let error = ListenOptions::new().listen_activated(None).expect_err("the first is no socket");
    assert!(matches!(error, ListenError::BadSocket), "{error:?}");
}

#[test]
fn a_service_manager_can_pass_the_socket() {
    let folder = Folder::new();
    let name = folder.name("activated");
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(&*name).expect("a path")).expect("a free path");
    listen(&socket, Backlog::MAXCONN).expect("a bound socket");
    let mut shell = Command::new("sh");
    let script =
        "exec 3</dev/null 4<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=first:second exec \"$0\"";
    shell.args(["-c", script]).arg(std::env::current_exe().expect("this program")).env(PATH, &name).stdin(socket);
    shell.envs(command("activated").get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut process = Process::run(&mut shell);
    drop(shell);
    let port = connect(&name, b"to a service").expect("a listener");
    assert_eq!(text(&port), "to a service");
    process.succeeded();
    end_of(&port);
    assert_eq!(folder.list(), ["activated"], "the socket is the service manager's");
    assert!(ListenOptions::new().listen_activated(None).expect("no error").is_none(), "this process was given none");
}
