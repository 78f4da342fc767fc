//! The benchmarks, run through the command line tool. Only one test measures, because two would disturb each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

const BENCHES: [&str; 10] =
    ["rtt", "throughput", "stream", "buffers", "wake", "create", "transfer", "fanin", "memory", "calls"];

#[test]
fn every_bench_prints_lines_with_its_fields_and_the_run_can_be_compared_with() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.html");
    let output = run(bench().args(["--quick", "--json", "--size", "64", "--size", "4096", "--html"]).arg(&report));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(assert_fields);

    // With one CPU, subjects that spin are skipped.
    let cpus = thread::available_parallelism().unwrap().get();
    // Without the permission to trace, system calls cannot be counted and `calls` is reported as skipped.
    let counted = !text(&output.stderr).contains("calls: skipped: ");
    assert!(counted || cpus == 1 || text(&output.stderr).contains("EPERM"), "{}", text(&output.stderr));
    let expected: BTreeSet<_> = BENCHES.into_iter().filter(|bench| counted || *bench != "calls").collect();
    let found: BTreeSet<_> = lines.iter().map(|line| line["bench"].as_str().unwrap()).collect();
    assert_eq!(found, expected, "{}", text(&output.stderr));
    let has = |bench: &str, what: &str, wait: &str, size: u64| {
        lines.iter().any(|line| {
            (line["bench"] == bench, line["what"] == what, line["wait"] == wait, line["size"] == size)
                == (true, true, true, true)
        })
    };
    for size in [64, 4096] {
        assert!(has("rtt", "futex", "block", size) && has("rtt", "messageport", "block", size));
        if cpus > 1 {
            for (bench, limit) in [("rtt", "limit"), ("throughput", "bare-ring")] {
                assert!(has(bench, limit, "spin", size) && has(bench, "messageport", "spin", size));
            }
        }
    }
    if cpus > 1 {
        // A message needs no allocation and no system call, except that a long wait polls the lane now and then.
        for line in lines.iter().filter(|line| line["bench"] == "calls" && line["wait"] == "spin") {
            assert_eq!(line["allocations"], 0.0, "{line}");
            assert!(line["syscalls"].as_f64().unwrap() < 0.1, "{line}");
        }
    }

    let page = fs::read_to_string(&report).unwrap();
    assert_is_page(&page);
    assert_is_told(&page, &lines, &report);
    assert_is_marked(&page, &lines);
    // A text explains its words too.
    for words in ["mean: ", "p50", "near, far: ", "version: messageport "] {
        assert!(text(&output.stderr).lines().any(|line| line.contains(words)), "{words}: {}", text(&output.stderr));
    }

    let baseline = dir.path().join("base.json");
    fs::write(&baseline, &output.stdout).unwrap();
    let output = run(bench().args(["create", "memory", "--quick", "--compare"]).arg(&baseline));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let ratios = text(&output.stdout).lines().filter(|line| line.contains(" x time ")).count();
    assert_eq!(ratios, 2, "{}", text(&output.stdout)); // those of the bare calls and of a pair
    let resident = |line: &str| line.split_once(" x resident ")?.1.parse::<f64>().ok();
    let residents: Vec<f64> = text(&output.stdout).lines().filter_map(resident).collect();
    assert_eq!(residents.len(), 2, "{}", text(&output.stdout)); // those of a new pair and of a used one
    assert!(residents.iter().all(|ratio| (0.5..2.0).contains(ratio)), "{residents:?}");
}

/// Asserts that a figure has the fields of its benchmark.
fn assert_fields(line: &Value) {
    let bench = line["bench"].as_str().unwrap();
    for field in ["what", "wait"] {
        assert!(!line[field].as_str().unwrap().is_empty(), "{field} in {line}");
    }
    assert!(line["size"].is_u64(), "size in {line}");
    let single = ["p50_ns", "p99_ns", "p999_ns", "samples"];
    let fields: &[&[&str]] = match bench {
        "rtt" | "buffers" | "create" | "transfer" => &[&["mean_ns", "blocks"], &single],
        "throughput" | "stream" => &[&["mean_ns", "blocks", "msgs_per_s", "bytes_per_s"]],
        "fanin" => &[&["mean_ns", "blocks", "msgs_per_s", "bytes_per_s", "ports"]],
        "wake" => &[&["mean_ns", "blocks", "cpu", "gap_us"], &single],
        _ => &[],
    };
    for field in fields.concat() {
        assert!(line[field].as_f64().unwrap_or(0.0) > 0.0, "{field} in {line}");
    }
    match bench {
        "calls" => assert!(line["syscalls"].is_f64() && line["allocations"].is_f64(), "{line}"),
        "memory" => assert!(line["resident_bytes"].is_u64() != line["cpu"].is_f64(), "{line}"),
        _ => {}
    }
    if let Some(ratio) = line.get("ratio") {
        assert!(ratio.as_f64().unwrap() > 0.0 && !line["against"].as_str().unwrap().is_empty(), "{line}");
    }
}

/// Asserts that elements are closed in order, and that each section has its plots and its table.
fn assert_is_page(page: &str) {
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    let mut open = Vec::new();
    for part in page.split('<').skip(2) {
        let (tag, _) = part.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "in {tag}");
        } else if !tag.ends_with('/') && !["meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    let sections: Vec<&str> = page.split("<section id=\"").skip(1).collect();
    assert!(sections.len() >= 8);
    for section in sections {
        let bench = section.split('"').next().unwrap();
        let charts = section.matches("<figure>").count();
        assert!(charts > 0 || bench == "memory" || bench == "calls", "no chart of {bench}");
        assert!(section.contains("<table>"), "no table of {bench}");
        assert!(page.contains(&format!("<a href=\"#{bench}\">")), "{bench} is not in the contents");
    }
    // The page loads nothing from elsewhere.
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("@import"));
}

/// Asserts that the page has the facts about its run, a summary and axes that can be read.
fn assert_is_told(page: &str, lines: &[Value], report: &Path) {
    let fact = |name: &str| {
        let (_, after) = page.split_once(&format!("<dt>{name}</dt><dd>")).unwrap_or_else(|| panic!("no {name}"));
        after.split_once("</dd>").unwrap().0
    };
    assert!(fact("version").starts_with(&format!("messageport {}, commit ", env!("CARGO_PKG_VERSION"))));
    let date = fact("date");
    assert!(date.len() == "2000-01-01T00:00:00Z".len() && date.starts_with("20") && date.ends_with('Z'), "{date}");
    let command = format!("messageport bench --quick --json --size 64 --size 4096 --html {}", report.display());
    assert_eq!(fact("command"), command);
    assert!(fact("length").starts_with("--quick"));
    assert!(fact("load").starts_with("none added; load average "));
    assert!(fact("machine").contains("Linux"));
    let placements: BTreeSet<&str> = lines.iter().filter_map(|line| line["placement"].as_str()).collect();
    assert!(placements.iter().all(|placement| fact("placement").contains(placement)), "{}", fact("placement"));

    let (_, summary) = page.split_once("<ol class=\"summary\">").expect("no summary");
    let (summary, _) = summary.split_once("</ol>").unwrap();
    assert_eq!(summary.matches("<li>").count(), 5, "{summary}");
    if thread::available_parallelism().unwrap().get() > 1 {
        // The factor comes from the figures of the same run.
        let mean = |label: [&str; 2]| {
            let found = lines.iter().find(|line| {
                (&line["bench"], &line["size"]) == (&"rtt".into(), &64.into())
                    && [line["what"].as_str(), line["wait"].as_str()] == label.map(Some)
            });
            found.and_then(|line| line["mean_ns"].as_f64()).unwrap()
        };
        let factor = mean(["unix seqpacket", "block"]) / mean(["messageport", "spin"]);
        let (_, sentence) = summary.split_once("64 bytes there and back: ").expect("no sentence about a round trip");
        let (time, rest) = sentence.split_once(", ").unwrap();
        assert!(time.ends_with("ns") || time.ends_with("us") || time.ends_with("ms"), "{time}");
        if factor > 1.06 {
            let told: f64 = rest.split(' ').next().unwrap().parse().unwrap();
            assert!(rest.contains(" x faster than a socket") && (told / factor - 1.0).abs() < 0.02, "{rest}: {factor}");
        }
    }
    // No bars: dots on axes that are labelled, with the unit and with the word for their scale.
    assert!(!page.contains("<rect") && page.contains("mean time, logarithmic"));
    let (_, percentiles) = page.split_once("<figcaption>Percentiles of a round trip</figcaption>").unwrap();
    let (percentiles, _) = percentiles.split_once("</figure>").unwrap();
    for tick in ["50 %", "90 %", "99 %", "99.9 %"] {
        assert!(percentiles.contains(&format!("\n{tick}\n")), "no tick at {tick}");
    }
    // Readable on a phone.
    assert!(page.contains("name=\"viewport\"") && page.contains("@container (max-width"));
}

/// Asserts that each implementation has one colour, and that what is unreliable is marked.
fn assert_is_marked(page: &str, lines: &[Value]) {
    let mut colours: BTreeSet<(&str, &str)> = BTreeSet::new();
    let whats: BTreeSet<&str> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
    let what = |label: &str| {
        let of = |what: &&&str| label.strip_prefix(**what).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        whats.iter().filter(of).max_by_key(|what| what.len()).copied()
    };
    for row in page.split("<span class=\"name\">").skip(1).filter(|row| row.contains("--dot:")) {
        let (label, rest) = row.split_once('<').unwrap();
        let (_, colour) = rest.split_once("--dot:").unwrap();
        colours.insert((what(label.trim_end()).unwrap(), colour.split('"').next().unwrap()));
    }
    for entry in page.split("stroke=\"").skip(1).filter(|entry| entry.starts_with("rgb(") && entry.contains("</svg>")) {
        let (colour, rest) = entry.split_once('"').unwrap();
        let (_, label) = rest.split_once("</svg>").unwrap();
        colours.insert((what(label.split('<').next().unwrap()).unwrap(), colour));
    }
    let named: BTreeSet<&str> = colours.iter().map(|(what, _)| *what).collect();
    assert!(named.len() > 5 && named.len() == colours.len(), "{colours:?}");
    let distinct: BTreeSet<&str> = colours.iter().map(|(_, colour)| *colour).collect();
    assert_eq!(distinct.len(), colours.len(), "{colours:?}");

    let unreliable = lines.iter().filter(|line| line["spread"].as_f64().is_some_and(|spread| spread > 0.5)).count();
    assert_eq!(page.matches(" doubtful\"><td").count(), unreliable);
    assert_eq!(page.matches("%?</td>").count(), unreliable);
}

#[test]
fn bad_arguments_and_files_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, nowhere) = (dir.path().join("missing.json"), dir.path().join("no/report.html"));
    let (empty, other) = (dir.path().join("empty.json"), dir.path().join("other.json"));
    fs::write(&empty, "").unwrap();
    fs::write(&other, "not json\n").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let refused: [&[String]; 7] = [
        &["nonsense".to_owned()],
        &["rtt".to_owned(), "rrt".to_owned()],
        &["rtt".to_owned(), "--size".to_owned(), "7".to_owned()],
        &["--compare".to_owned(), path(&missing)],
        &["--compare".to_owned(), path(&empty)],
        &["--compare".to_owned(), path(&other)],
        &["--html".to_owned(), path(&nowhere)],
    ];
    for arguments in refused {
        let output = run(bench().args(arguments));
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(2), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("messageport: ") && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
    }
}

#[test]
fn internal_commands_fail_for_users() {
    for arguments in [&[][..], &["second"], &["nonsense", "1", "2", "3"], &["second", "1", "0", "0"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_messageport"));
        let output = run(command.arg("bench-role").args(arguments));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{arguments:?}");
    }
}

fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messageport"));
    command.arg("bench");
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
