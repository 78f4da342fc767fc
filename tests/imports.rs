//! The order of modules that ARCHITECTURE.md shows, and where `unsafe` may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Imports point down. Modules on one line may know each other.
const ORDER: &[&[&str]] = &[
    &["lib"],
    &["aio"],
    &["typed"],
    &["call"],
    &["connect"],
    &["event_loop", "loop_handle", "port_handle", "listeners", "event", "timers", "port_set"],
    &["poller"],
    &["channel"],
    &["plain", "batch"],
    &["post", "carrier", "reservation", "recv", "message_ref"],
    &["loan"],
    &["port", "transfer", "message"],
    &["capsule"],
    &["growth"],
    &["end"],
    &["pool"],
    &["frozen", "shared", "named", "cursor", "buffer"],
    &["buffer_file"],
    &["task", "wait"],
    &["lane", "segment"],
    &["ring"],
    &["record", "doorbell", "direction"],
    &["layout", "error", "violation", "sync", "scratch"],
    &["sys"],
];

/// Errors give back what was passed in, so they name it.
const EXCEPTIONS: &[(&str, &str)] = &[("error", "port"), ("error", "transfer"), ("error", "buffer")];

/// System calls, shared memory, and the public functions that hand out slices of it.
const UNSAFE: &[&str] = &["sys/", "direction.rs", "buffer.rs", "message_ref.rs"];

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.to_str().unwrap().ends_with("_tests.rs")
            {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    let read = |path: PathBuf| (path.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
    found.into_iter().map(read).collect()
}

/// The lines that are code.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(|line| line.split("//").next().unwrap())
}

/// `src/connect/child.rs` belongs to `connect`.
fn module(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn level(module: &str) -> usize {
    let found = ORDER.iter().position(|line| line.contains(&module));
    found.unwrap_or_else(|| panic!("{module} has no place in the order"))
}

#[test]
fn imports_point_down() {
    for (path, source) in sources() {
        let from = module(&path);
        let lines = code(&source).flat_map(|line| line.split("crate::").skip(1));
        for rest in lines {
            let to: String = rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
            let allowed = level(&from) <= level(&to) || EXCEPTIONS.contains(&(&*from, &*to));
            assert!(allowed, "{}: {from} imports {to}, which is above it", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_at_the_bottom() {
    for (path, source) in sources() {
        let allowed = UNSAFE.iter().any(|prefix| path.to_str().unwrap().starts_with(prefix));
        let uses = code(&source).filter(|line| line.replace("unsafe_code", "").contains("unsafe")).count();
        assert!(allowed || uses == 0, "{} has unsafe code", path.display());
    }
}

#[test]
fn the_architecture_page_knows_every_module() {
    let page = include_str!("../ARCHITECTURE.md");
    for name in ORDER.iter().copied().flatten() {
        assert!(page.contains(&format!("`{name}`")), "ARCHITECTURE.md does not mention `{name}`");
    }
}
