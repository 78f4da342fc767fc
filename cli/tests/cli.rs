//! The command line tool: processes, their output and their exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::{Pid, getegid};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[test]
fn demo_ends_with_the_sum_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    let data = noise(3_000_001, 1);
    fs::write(&file, &data).unwrap();
    let output = run(messageport(&dir).arg("demo").arg(&file));
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""));
    assert_eq!(last_line(&output.stdout), sum_line(&data, &file));
}

#[test]
fn demo_without_arguments_moves_its_own_executable() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&mut messageport(&dir));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let this = Path::new(env!("CARGO_BIN_EXE_messageport"));
    assert_eq!(last_line(&output.stdout), sum_line(&fs::read(this).unwrap(), this));
    assert!(text(&output.stdout).contains("Hello from the main page!"));
}

#[test]
fn demo_tells_in_each_step_what_happened_how_long_it_took_and_what_it_shows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, noise(300_000, 4)).unwrap();
    let output = run(messageport(&dir).arg("demo").arg(&file));
    let story = text(&output.stdout);
    let steps: Vec<&str> =
        story.split("\n\n").filter(|part| part.starts_with(|start: char| start.is_ascii_digit())).collect();
    assert_eq!(steps.len(), 5, "{story}");
    for (step, (number, clocks)) in steps.iter().zip([(1, 1), (2, 1), (3, 1), (4, 3), (5, 1)]) {
        assert!(step.starts_with(&format!("{number}. The page")), "{step}");
        assert_eq!(step.matches("It shows: ").count(), 1, "{step}");
        assert_eq!(times(step).len(), clocks, "{step}");
    }
    // The greeting is timed by one clock, which includes the start of the process: it takes longer than an echo.
    let [greeting, echo] = [steps[0], steps[1]].map(|step| times(step)[0]);
    assert!(greeting > echo, "{story}");
    let [_, hashed, posted] = times(steps[3])[..] else { panic!("{story}") };
    assert!(posted <= hashed, "{story}");
    assert!(steps[2].contains("in 5 messages") && steps[2].contains("iB/s"), "{story}");
}

/// Returns the times of a text in seconds: a number, a space and a unit each.
fn times(text: &str) -> Vec<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let time = |pair: &[&str]| {
        let scale = match pair[1].trim_end_matches(['.', ',', ')']) {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            _ => return None,
        };
        Some(pair[0].trim_start_matches('(').parse::<f64>().ok()? * scale)
    };
    words.windows(2).filter_map(time).collect()
}

#[test]
fn demo_moves_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty");
    fs::write(&file, b"").unwrap();
    let output = run(messageport(&dir).arg("demo").arg(&file));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(last_line(&output.stdout), sum_line(b"", &file));
}

#[test]
fn demo_refuses_anything_but_a_readable_file() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path(), &dir.path().join("missing"), Path::new("/dev/null")] {
        assert_refused(&run(messageport(&dir).arg("demo").arg(path)));
    }
}

#[test]
fn the_manual_page_has_what_help_has() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(messageport(&dir).arg("man"));
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""));
    let page = text(&output.stdout).replace("\\-", "-").replace("\\fB", "").replace("\\fR", "").replace("\\fI", "");
    assert!(page.contains(".TH messageport 1"), "{page}");
    for words in ["Wait for one `connect NAME`", "messageport listen", "Examples:", "--quick", "the hashes agree"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("demo-iframe"), "{page}");
}

#[test]
fn demo_goes_on_when_its_reader_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = messageport(&dir).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(0), ""));
}

#[test]
fn join_carries_bytes_both_ways_to_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (noise(1_500_000, 2), noise(700_001, 3));
    let mut listener = Listening::start(&dir, "./talk");
    let mut connector = start(messageport(&dir).args(["connect", "./talk"]));
    let feeders = [(listener.stdin(), back.clone()), (connector.stdin.take().unwrap(), there.clone())]
        .map(|(mut stdin, data)| thread::spawn(move || stdin.write_all(&data).unwrap()));
    let connected = thread::spawn(move || connector.wait_with_output().unwrap());
    let (listened, connected) = (listener.finish(), connected.join().unwrap());
    for feeder in feeders {
        feeder.join().unwrap();
    }
    assert_eq!((listened.status.code(), connected.status.code()), (Some(0), Some(0)));
    assert!(listened.stdout == there && connected.stdout == back, "the bytes differ");
    assert_eq!(text(&connected.stderr), "");
}

#[test]
fn join_goes_on_in_one_direction_after_the_other_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = Listening::start(&dir, "./half");
    let mut connector = start_with(messageport(&dir).args(["connect", "./half"]), Stdio::null());
    // The connector's input ends at once, and with it the listener's output, but not the listener's input.
    let mut stdout = listener.child.stdout.take().unwrap();
    assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 0);
    listener.stdin().write_all(b"still here").unwrap();
    let mut received = Vec::new();
    connector.stdout.take().unwrap().read_to_end(&mut received).unwrap();
    assert_eq!(received, b"still here");
    assert_eq!((listener.finish().status.code(), connector.wait().unwrap().code()), (Some(0), Some(0)));
}

#[test]
fn join_reports_a_killed_peer() {
    for kill_listener in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut listener = Listening::start(&dir, "./doomed");
        let mut connector = start(messageport(&dir).args(["connect", "./doomed"]));
        let mut inputs = [listener.stdin(), connector.stdin.take().unwrap()];
        // One byte in each direction shows that both are connected.
        for stdin in &mut inputs {
            stdin.write_all(b"x").unwrap();
        }
        for stdout in [&mut listener.child.stdout, &mut connector.stdout] {
            stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        }
        if kill_listener {
            listener.child.kill().unwrap();
        } else {
            connector.kill().unwrap();
        }
        let (listened, connected) = (listener.finish(), connector.wait_with_output().unwrap());
        let (survivor, dead) = if kill_listener { (connected, listened) } else { (listened, connected) };
        assert_eq!((survivor.status.code(), dead.status.code()), (Some(3), None));
        assert_eq!(text(&survivor.stderr).lines().count(), 1, "{}", text(&survivor.stderr));
        drop(inputs);
    }
}

#[test]
fn join_reports_a_closed_output() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = Listening::start(&dir, "./deaf");
    drop(listener.child.stdout.take());
    let mut connector = start(messageport(&dir).args(["connect", "./deaf"]));
    let mut stdin = connector.stdin.take().unwrap();
    stdin.write_all(b"nobody reads this").unwrap();
    let _open = listener.stdin();
    let listened = listener.finish();
    assert_eq!(listened.status.code(), Some(2));
    assert_eq!(text(&listened.stderr).lines().count(), 1, "{}", text(&listened.stderr));
    assert_eq!(connector.wait().unwrap().code(), Some(3));
}

#[test]
fn join_succeeds_only_if_the_other_side_has_written_everything() {
    let dir = tempfile::tempdir().unwrap();
    // Both inputs end, and everything is received, but the listener cannot write it.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = messageport(&dir);
    command.args(["listen", "./deaf"]).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut listener = Listening::of(command.spawn().unwrap());
    let mut connector = start(messageport(&dir).args(["connect", "./deaf"]));
    connector.stdin.take().unwrap().write_all(b"hi").unwrap();
    let connected = connector.wait_with_output().unwrap();
    assert_eq!(connected.status.code(), Some(3), "{}", text(&connected.stderr));
    assert_eq!(listener.child.wait().unwrap().code(), Some(2));
}

#[test]
fn closed_streams_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tool = env!("CARGO_BIN_EXE_messageport");
    for command in
        ["listen ./x >&-", "connect ./x >&-", "demo >&-", "bench --quick >&-", "listen ./x <&-", "connect ./x <&-"]
    {
        let mut shell = Command::new("sh");
        let output = run(shell.arg("-c").arg(format!("exec timeout 20 {tool} {command}")).current_dir(dir.path()));
        assert_refused(&output);
        assert!(text(&output.stderr).contains("it is closed"), "{command}: {}", text(&output.stderr));
    }
}

#[test]
fn control_characters_are_refused_in_names_and_escaped_in_messages() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["./two\nlines", "two\nlines", "./\x1b[2J"] {
        for command in ["listen", "connect", "demo"] {
            assert_refused(&run(messageport(&dir).args([command, name])));
        }
    }
    // A folder may have any name.
    let folder = dir.path().join("two\nlines");
    fs::create_dir(&folder).unwrap();
    let mut listener =
        Listening::of(start_with(messageport(&dir).args(["listen", "./x"]).current_dir(folder), Stdio::null()));
    listener.child.kill().unwrap();
    listener.child.wait().unwrap();
}

/// Gives the signal its default action in this process and in those that it starts: nohup(1) has SIGHUP ignored.
fn set_default(ending: Signal) {
    #[allow(unsafe_code)]
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(ending, SigHandler::SigDfl) }.unwrap();
}

#[test]
fn a_signal_that_ends_a_listener_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        set_default(signal);
        let mut listener = Listening::start(&dir, "./short");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        kill(Pid::from_raw(listener.child.id() as i32), signal).unwrap();
        assert_eq!(listener.child.wait().unwrap().signal(), Some(signal as i32));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{signal}");
    }
}

#[test]
fn a_client_that_gave_up_before_it_was_accepted_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut listener = Listening::start(&dir, "./late");
    let pid = Pid::from_raw(listener.child.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let path = dir.path().join("late");
    let options = messageport::ConnectOptions::new().timeout(Duration::from_millis(50));
    let error = options.connect(path.to_str().unwrap(), b"").unwrap_err();
    assert!(matches!(error, messageport::ConnectError::TimedOut), "{error:?}");
    // A killed client, with its greeting in the queue.
    let mut killed = start(messageport(&dir).args(["connect", "./late"]));
    // It sleeps once it waits for the answer.
    let state = |pid| fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let start_of_wait = Instant::now();
    while !state(killed.id()).contains("poll") && start_of_wait.elapsed() < Duration::from_secs(5) {
        thread::yield_now(); // at most 5 s: this user may not be allowed to see where it sleeps
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    drop(listener.stdin());
    let mut connector = start(messageport(&dir).args(["connect", "./late"]));
    connector.stdin.take().unwrap().write_all(b"the first client").unwrap();
    let (listened, connected) = (listener.finish(), connector.wait_with_output().unwrap());
    assert_eq!((listened.status.code(), connected.status.code()), (Some(0), Some(0)), "{}", text(&listened.stderr));
    assert_eq!(listened.stdout, b"the first client");
}

#[test]
fn a_connector_can_come_first_and_a_listener_can_admit_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let early = start_with(messageport(&dir).args(["connect", "./early", "--wait", "20"]), Stdio::null());
    let group = getegid().to_string();
    let child = start_with(messageport(&dir).args(["listen", "./early", "--group", &group]), Stdio::null());
    let listener = Listening::of(child);
    let (listened, connected) = (listener.finish(), early.wait_with_output().unwrap());
    assert_eq!((listened.status.code(), connected.status.code()), (Some(0), Some(0)), "{}", text(&connected.stderr));

    let child = start_with(messageport(&dir).args(["listen", "./open", "--mode", "666"]), Stdio::null());
    let mut listener = Listening::of(child);
    let found = fs::symlink_metadata(dir.path().join("open")).unwrap();
    assert_eq!((found.mode() & 0o777, found.gid()), (0o666, getegid().as_raw()));
    listener.child.kill().unwrap();
    listener.child.wait().unwrap();
    assert_refused(&run(messageport(&dir).args(["listen", "./x", "--group", "no such group"])));
    assert_eq!(run(messageport(&dir).args(["listen", "./x", "--mode", "9"])).status.code(), Some(2));
}

#[test]
fn names_that_cannot_be_used_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Listening::start(&dir, "./taken");
    assert_refused(&run(messageport(&dir).args(["listen", "./taken"])));
    assert_refused(&run(messageport(&dir).args(["connect", "./nobody"])));
    assert_refused(&run(messageport(&dir).args(["listen", ""])));
    first.child.kill().unwrap();
    // The name of a killed listener can be used again.
    first.child.wait().unwrap();
    let mut second = Listening::start(&dir, "./taken");
    second.child.kill().unwrap();
    second.child.wait().unwrap();
}

#[test]
fn an_explicit_path_is_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let mut listener = Listening::start(&dir, path.to_str().unwrap());
    assert!(path.exists());
    drop(listener.stdin()); // ends the listener's input; that of the connector is empty
    let connector = run(messageport(&dir).arg("connect").arg(&path));
    assert_eq!((listener.finish().status.code(), connector.status.code()), (Some(0), Some(0)));
}

#[test]
fn help_and_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(messageport(&dir).arg("--help"));
    assert_eq!(help.status.code(), Some(0));
    for command in ["demo", "listen", "connect", "bench"] {
        assert!(text(&help.stdout).contains(command));
        assert_eq!(run(messageport(&dir).args([command, "--wrong"])).status.code(), Some(2));
    }
    // The internal commands of the demo fail without a parent process.
    assert_eq!(run(messageport(&dir).arg("demo-iframe")).status.code(), Some(1));
}

/// Returns a command of the tool in the test's own directory, below which `./NAME` is a name.
fn messageport(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messageport"));
    command.current_dir(dir.path());
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Starts a command with pipes for standard input, output and error.
fn start(command: &mut Command) -> Child {
    start_with(command, Stdio::piped())
}

/// Starts a command with the given standard input, and pipes for output and error.
fn start_with(command: &mut Command, stdin: Stdio) -> Child {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A `listen` process that accepts connections.
struct Listening {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Listening {
    fn start(dir: &TempDir, name: &str) -> Self {
        Self::of(start(messageport(dir).args(["listen", name])))
    }

    /// Waits until the process accepts connections.
    fn of(mut child: Child) -> Self {
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening at /"), "{line}");
        assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
        Self { child, stderr }
    }

    fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits for the end of the process. Returns its output, without the line on standard error that it listens.
    fn finish(mut self) -> Output {
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout).unwrap();
        }
        let mut stderr = Vec::new();
        self.stderr.read_to_end(&mut stderr).unwrap();
        Output { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

fn assert_refused(output: &Output) {
    assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(2), ""));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("messageport: cannot ") && stderr.lines().count() == 1, "{stderr}");
    assert!(!stderr.trim_end_matches('\n').contains(char::is_control), "{stderr:?}");
}

fn sum_line(data: &[u8], file: &Path) -> String {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {hex} {}", file.display())
}

fn last_line(output: &[u8]) -> String {
    text(output).lines().last().unwrap_or_default().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns reproducible pseudorandom bytes.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}
