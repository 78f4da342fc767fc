//! Runs of a target without libFuzzer, on the inputs of its corpus and on random inputs.
//!
//! A corpus is a text file with one input a line, in hexadecimal digits.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Runs one input, and panics if something is wrong.
pub type Target = fn(&[u8]);

/// A replay runs 10 000 random inputs, unless the environment variable [`RUNS_VARIABLE`] sets another number.
pub const RUNS: usize = 10_000;
/// The environment variable that sets the number of random inputs of a replay.
pub const RUNS_VARIABLE: &str = "MESSAGEPORT_FUZZ_RUNS";
/// A random input has fewer than 700 bytes.
const MAX_LEN: usize = 700;

/// The inputs in the corpus of a target.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(path(target)).unwrap_or_default();
    text.lines().map(|line| from_hex(line).unwrap_or_else(|| panic!("{target}: {line:?} is not an input"))).collect()
}

fn path(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("{target}.txt"))
}

fn from_hex(line: &str) -> Option<Vec<u8>> {
    let (pairs, []) = line.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

/// Writes the corpus of a target to a folder in the format of libFuzzer, one file for each input.
pub fn unpack(target: &str, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    for (number, input) in corpus(target).iter().enumerate() {
        fs::write(folder.join(format!("{number:04}")), input).expect("a file");
    }
}

/// Makes the files of a folder the corpus of a target.
pub fn pack(target: &str, folder: &Path) {
    let files = fs::read_dir(folder).expect("a folder").flatten();
    let mut inputs: Vec<_> = files.map(|entry| fs::read(entry.path()).expect("a file")).collect();
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    let line = |input: &Vec<u8>| input.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    fs::write(path(target), inputs.iter().map(line).collect::<String>()).expect("a corpus");
}

/// The program of a target without libFuzzer.
pub fn main(targets: &[(&str, Target)]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let find = |name: &str| targets.iter().find(|(target, _)| *target == name).expect("a target of this program").1;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["unpack", target, folder] => unpack(target, folder.as_ref()),
        ["pack", target, folder] => pack(target, folder.as_ref()),
        ["run", target, ref files @ ..] => {
            let run = find(target);
            files.iter().for_each(|file| run(&fs::read(file).expect("an input")));
        }
        _ => targets.iter().for_each(|(name, run)| replay(name, *run)),
    }
}

/// Runs the inputs of the corpus, and random inputs.
pub fn replay(target: &str, run: Target) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| run(input));
    let given = std::env::var(RUNS_VARIABLE).ok().and_then(|runs| runs.parse().ok());
    let mut random = Random::new(1);
    let runs = given.unwrap_or(RUNS);
    for _ in 0..runs {
        let input = random.next(&corpus);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{target} fails with {digits}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("{target}: {} inputs of the corpus, {runs} random inputs", corpus.len());
}

/// Asserts that `run`, a target with a planted fault, fails with a message that contains `symptom`.
#[track_caller]
pub fn caught(target: &str, symptom: &str, run: Target) {
    let corpus = corpus(target);
    let mut random = Random::new(2);
    for count in 1..=100_000 {
        let input = random.next(&corpus);
        if let Err(panic) = catch_unwind(|| run(&input)) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text");
            assert!(text.contains(symptom), "caught with another symptom: {text}");
            return println!("{target}: caught after {count} inputs");
        }
    }
    panic!("{target}: not caught");
}

/// A generator of inputs: random bytes, or an input of a corpus with changes.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn word(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }

    fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        if corpus.is_empty() || self.below(3) == 0 {
            let len = self.below(MAX_LEN);
            // Mostly small numbers, which reach more than large ones.
            return (0..len).map(|_| (self.word() >> (self.word() % 60)) as u8).collect();
        }
        let mut input = corpus[self.below(corpus.len())].clone();
        let other = &corpus[self.below(corpus.len())];
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(4) {
                0 if at < input.len() => input[at] = self.word() as u8,
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => drop(input.splice(at..at, other.iter().copied().take(MAX_LEN))),
                _ => input.truncate(at.max(4)),
            }
        }
        input
    }
}
