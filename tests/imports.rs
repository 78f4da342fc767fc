//! The rooms of each crate, from top to bottom: imports point down, and `unsafe` code is at the bottom.
//!
//! A room is a folder or a file in the root of the crate. The code map of ARCHITECTURE.md and the `mod` lines of
//! `lib.rs` have the order of these lists.

use std::fs;
use std::path::{Path, PathBuf};

/// A crate of this repository.
struct House {
    /// The folder of its sources.
    sources: &'static str,
    /// Its rooms by floor. A room may import the rooms of lower floors, and no other.
    floors: &'static [&'static [&'static str]],
}

const LIBRARY: House = House {
    sources: "src",
    floors: &[
        &["lib"],
        &["aio", "typed", "events"],
        &["connect", "call", "poll"],
        &["port"],
        &["capsule"],
        &["end"],
        &["buffer", "queue"],
        &["error"],
        &["layout", "violation", "scratch"],
        &["sys"],
    ],
};

const C_LAYER: House = House {
    sources: "ffi/src",
    floors: &[
        &["lib"],
        &["calls"],
        &["guard"],
        &["transfer"],
        &["port"],
        &["buffer"],
        &["input"],
        &["handle"],
        &["failure"],
        &["code"],
    ],
};

const TOOL: House = House {
    sources: "cli/src",
    floors: &[&["main"], &["bench", "demo", "join", "manual"], &["output", "streams"], &["failure"]],
};

const BENCHMARKS: House = House {
    sources: "bench/src",
    floors: &[
        &["lib"],
        &["run"],
        &["report", "rounds"],
        &["second", "suite"],
        &["transport", "limits"],
        &["bench"],
        &["figure", "session"],
        &["link", "payload"],
        &["system"],
        &["error"],
    ],
};

const PEERS: House = House {
    sources: "peers/src",
    floors: &[&["main"], &["system", "iceoryx", "ipc", "threads", "foreign", "node"], &["compare"]],
};

const MODELS: House = House {
    sources: "models/src",
    floors: &[
        &["lib"],
        &["controls"],
        &["closing", "growing", "waiting"],
        &["passing"],
        &["ends"],
        &["end"],
        &["queue"],
        &["check", "word"],
        &["faults"],
        &["violation", "sys"],
    ],
};

const FUZZING: House = House {
    sources: "fuzz/src",
    floors: &[
        &["lib", "main"],
        &["targets"],
        &["typed", "events"],
        &["connect", "call", "poll"],
        &["port"],
        &["capsule"],
        &["end"],
        &["buffer", "queue"],
        &["error"],
        &["layout", "violation", "scratch"],
        &["sys"],
        &["runs", "input"],
    ],
};

const CHANGING_MEMORY: House =
    House { sources: "fuzz/changing", floors: &[&["main"], &["consumer", "producer"], &["queue"], &["violation"]] };

const HOUSES: &[House] = &[LIBRARY, C_LAYER, TOOL, BENCHMARKS, PEERS, MODELS, FUZZING, CHANGING_MEMORY];

/// System calls, shared memory, and the public functions that hand out slices of it.
const UNSAFE: &[&str] = &["sys/", "queue/direction.rs", "buffer/mod.rs", "port/in_place.rs"];

/// A source file: its path below the folder of the sources, and its text.
type Source = (PathBuf, String);

impl House {
    fn root(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(self.sources)
    }

    /// Every file except unit tests, which may import any room.
    fn files(&self) -> Vec<Source> {
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
        let mut found = Vec::new();
        collect(&self.root(), &mut found);
        let read =
            |path: PathBuf| (path.strip_prefix(self.root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap());
        found.into_iter().map(read).collect()
    }

    fn rooms(&self) -> impl Iterator<Item = &'static str> {
        self.floors.iter().copied().flatten().copied()
    }

    fn floor(&self, room: &str) -> usize {
        let found = self.floors.iter().position(|floor| floor.contains(&room));
        found.unwrap_or_else(|| panic!("{}: {room} is on no floor", self.sources))
    }
}

/// The lines that are code.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(|line| line.split("//").next().unwrap())
}

/// `connect/child.rs` belongs to `connect`.
fn room_of(path: &Path) -> String {
    path.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The rooms that the code of a file names by `crate::`, or by as many `super::` as lead to the root of the crate.
fn imports(path: &Path, source: &str) -> Vec<String> {
    let depth = path.iter().count() - usize::from(path.ends_with("mod.rs"));
    let up = "super::".repeat(depth);
    let after = |prefix: &str| -> Vec<String> {
        let rests = code(source).flat_map(|line| line.split(prefix).skip(1));
        let names = rests.map(|rest| rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_'));
        names.map(|name| name.collect()).collect()
    };
    let mut found = after("crate::");
    if depth > 0 {
        found.extend(after(&up));
    }
    // Beside rooms, `crate::` names exports of the crate such as `crate::Message`, which begin with a capital letter.
    found.retain(|name| name.starts_with(|letter: char| letter.is_lowercase()) && name != "super" && name != "crate");
    found
}

#[test]
fn imports_point_down() {
    for house in HOUSES {
        for (path, source) in house.files() {
            let from = room_of(&path);
            for to in imports(&path, &source) {
                let allowed = from == to || house.floor(&from) < house.floor(&to);
                assert!(allowed, "{}/{}: {from} imports {to}, which is not below it", house.sources, path.display());
            }
        }
    }
}

#[test]
fn modules_are_declared_in_the_order_of_the_rooms() {
    for house in HOUSES {
        let root = ["lib.rs", "main.rs"].map(|name| house.root().join(name)).into_iter().find(|path| path.exists());
        let root = fs::read_to_string(root.unwrap()).unwrap();
        let declared: Vec<&str> = code(&root)
            .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
            .collect();
        let expected: Vec<&str> = house.rooms().filter(|room| !["lib", "main"].contains(room)).collect();
        assert_eq!(declared, expected, "{}", house.sources);
    }
}

#[test]
fn unsafe_code_is_at_the_bottom() {
    for (path, source) in LIBRARY.files() {
        let allowed = UNSAFE.iter().any(|prefix| path.to_str().unwrap().starts_with(prefix));
        let uses = code(&source).filter(|line| line.replace("unsafe_code", "").contains("unsafe")).count();
        assert!(allowed || uses == 0, "{} has unsafe code", path.display());
    }
}

#[test]
fn system_calls_are_at_the_bottom() {
    for (path, source) in LIBRARY.files() {
        let uses = code(&source)
            .filter(|line| line.replace("unix::", "").contains("nix::") || line.contains("libc::"))
            .count();
        assert!(path.starts_with("sys") || uses == 0, "{} makes system calls", path.display());
    }
}

#[test]
fn the_architecture_page_lists_the_rooms_in_order() {
    let page = include_str!("../ARCHITECTURE.md");
    let map = page.split_once("## Code map").expect("ARCHITECTURE.md has a code map").1;
    let mut from = 0;
    for room in LIBRARY.rooms() {
        let found = map[from..].find(&format!("| `{room}`"));
        from += found.unwrap_or_else(|| panic!("the code map has `{room}` missing or out of order"));
    }
}
