//! The header compiles alone in every language, declares exactly the functions of the library, and its macros work.

mod native;

use std::collections::BTreeSet;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use messageport_ffi as ffi;
use native::*;

/// The functions that programs link to, one a line.
const GOLDEN: &str = include_str!("golden.txt");

#[test]
fn compiles_alone_and_twice() {
    let c = [source("tests/c/alone1.c"), source("tests/c/alone2.c")];
    for standard in ["-std=c99", "-std=c11", "-std=c17", "-std=gnu17"] {
        succeed(compile(&c, &[&[standard], STRICT].concat()).args(["-c", "-fsyntax-only"]));
    }
    let mut kinds: Vec<Vec<&str>> = CPP_VERSIONS.iter().map(|standard| vec![*standard]).collect();
    kinds.extend(CPP_VERSIONS.iter().map(|standard| vec![*standard, "-fno-exceptions", "-fno-rtti"]));
    for kind in kinds {
        // Two units that include the headers link without duplicate symbols.
        program("alone", &["tests/cpp/alone1.cpp", "tests/cpp/alone2.cpp"], &kind);
    }
}

#[test]
fn declares_what_the_library_exports_and_nothing_else() {
    let (declared, _) = declared();
    let golden: Vec<String> = GOLDEN.lines().map(str::to_owned).collect();
    assert_eq!(declared, golden, "the header (left) and tests/golden.txt (right) differ");

    let nm = succeed(Command::new("nm").args(["-D", "--defined-only"]).arg(built().join("libmessageport_ffi.so")));
    let mut exported: Vec<&str> = nm.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    exported.sort_unstable();
    assert_eq!(exported, GOLDEN.lines().collect::<Vec<_>>(), "the library (left) and tests/golden.txt (right) differ");
}

#[test]
fn the_library_has_its_name() {
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(built().join("libmessageport_ffi.so")));
    assert!(dynamic.contains("[libmessageport.so.0]"), "{dynamic}");
}

#[test]
fn every_macro_is_evaluated() {
    let header = fs::read_to_string(source("include/messageport.h")).unwrap();
    let code = without_comments(&header);
    let defined: BTreeSet<&str> = code
        .lines()
        .filter_map(|line| line.strip_prefix("#define "))
        .map(|rest| rest.split_whitespace().next().unwrap())
        .filter(|name| *name != "MESSAGEPORT_H")
        .collect();
    let expected = "\
        MSGPORT_VERSION_MAJOR 0\nMSGPORT_VERSION_MINOR 1\nMSGPORT_VERSION_PATCH 0\nMSGPORT_VERSION 1000\n\
        MSGPORT_FOREVER -1\nMSGPORT_CHANNEL_DATA_ONLY 1\nMSGPORT_CHANNEL_NO_CACHE 2\n\
        MSGPORT_ITEM_PORT 1\nMSGPORT_ITEM_BUFFER 2\nMSGPORT_ITEM_FROZEN 3\nMSGPORT_ITEM_SHARED 4\n\
        MSGPORT_ITEM_DESCRIPTOR 5\nMSGPORT_QUEUED_INIT 1\nMSGPORT_SET 0\nMSGPORT_ADD 1\nMSGPORT_ADD_ONCE 2\nMSGPORT_READABLE 1\nMSGPORT_WRITABLE 2\nMSGPORT_ANY_USER 1\nMSGPORT_REMOVE_ON_SIGNAL 2\nMSGPORT_WAIT_FOR_LISTENER 4\nMSGPORT_NO_STREAM -1\n\
        MSGPORT_PARENT_VARIABLE MESSAGEPORT_PARENT\nMSGPORT_SPAWN_OPTIONS_INIT 1\nMSGPORT_CHANNEL_OPTIONS_INIT 1\nMSGPORT_LISTEN_OPTIONS_INIT 1\n\
        MSGPORT_CONNECT_OPTIONS_INIT 1\n";
    let version = format!("{}.{}.{}", 0, 1, 0);
    assert_eq!(version, env!("CARGO_PKG_VERSION"), "the version of the header is that of the package");
    for (name, flags) in [("macros", C), ("macros-cpp", &["-x", "c++", "-std=c++17"][..])] {
        let printed = succeed(&mut Command::new(program(name, &["tests/c/macros.c"], flags)));
        assert_eq!(printed, expected);
        let evaluated: BTreeSet<&str> = printed.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(evaluated, defined, "tests/c/macros.c does not evaluate every macro");
    }
}

#[test]
fn structs_lie_the_same_in_c_and_in_rust() {
    macro_rules! layout {
        ($($c:literal = $rust:ty { $($field:ident),* };)*) => {{
            let mut text = String::new();
            $(
                text += &format!("{} {}\n", $c, size_of::<$rust>());
                $(text += &format!("{}.{} {}\n", $c, stringify!($field), offset_of!($rust, $field));)*
            )*
            text
        }};
    }
    let rust = layout! {
        "msgport_code" = ffi::Code {};
        "msgport_channel_options" = ffi::FfiChannelOptions {
            size, capacity, max_capacity, max_message_len, cached_bytes, cached_buffers, max_handles, flags, reserved,
            name
        };
        "msgport_item" = ffi::Item { kind, reserved, of };
        "msgport_bytes" = ffi::FfiBytes { data, len };
        "msgport_queued" = ffi::FfiQueued { size, bytes, capacity, high_water, max_message_len, max_inline_len, transferred };
        "msgport_portset_event" = ffi::FfiSetEvent { port, code, reserved };
        "msgport_spawn_options" = ffi::FfiSpawnOptions { size, environment, directory, input, output, error, reserved };
        "msgport_listen_options" = ffi::FfiListenOptions { size, greeting_timeout, flags, mode, group, reserved };
        "msgport_connect_options" = ffi::FfiConnectOptions { size, timeout, flags, reserved, channel };
        "msgport_peer" = ffi::Peer { uid, pid, has_pid };
    };
    let c = succeed(&mut Command::new(program("layout", &["tests/c/layout.c"], &[])));
    assert_eq!(c, rust);
    // Every struct of the header must be among them.
    let header = fs::read_to_string(source("include/messageport.h")).unwrap();
    let structs = header.lines().filter(|line| line.starts_with("typedef struct") && line.ends_with('{'));
    for line in structs {
        let name = line.split_whitespace().nth(2).unwrap();
        assert!(c.contains(&format!("{name} ")), "tests/c/layout.c does not look at {name}");
    }
}

#[test]
fn codes_have_the_same_numbers_everywhere_and_for_ever() {
    let header = fs::read_to_string(source("include/messageport.h")).unwrap();
    let code = without_comments(&header);
    let in_header: Vec<String> = code
        .lines()
        .filter_map(|line| line.trim().strip_prefix("MSGPORT_"))
        .filter_map(|rest| rest.trim_end_matches(',').split_once(" = "))
        .map(|(name, number)| format!("MSGPORT_{name} {number}"))
        .collect();
    let golden: Vec<&str> = include_str!("codes.txt").lines().collect();
    assert_eq!(in_header, golden, "the header (left) and tests/codes.txt (right) differ");
    for line in golden {
        let (name, number) = line.split_once(' ').unwrap();
        let pointer = ffi::msgport_code_name(number.parse().unwrap());
        // SAFETY: a static text.
        #[allow(unsafe_code)]
        let known = unsafe { std::ffi::CStr::from_ptr(pointer) };
        assert_eq!(known.to_str().unwrap(), name);
    }
}

#[test]
fn every_function_says_what_may_run_at_the_same_time() {
    let header = fs::read_to_string(source("include/messageport.h")).unwrap();
    let (declared, _) = declared();
    for name in declared {
        let call = format!("{name}(");
        let at = header.match_indices(&call).map(|(at, _)| at);
        // The declaration is the mention that is neither inside a comment nor, indented, inside another function.
        let line_of = |at: usize| header[..at].rsplit('\n').next().unwrap();
        let at =
            at.filter(|at| header[..*at].rfind("/*") <= header[..*at].rfind("*/") && !line_of(*at).starts_with(' '));
        let at = at.last().unwrap();
        let end = header[..at].rfind("*/").unwrap();
        assert!(!header[end..at].contains([';', '}']), "{name} has no comment of its own");
        let comment = &header[header[..end].rfind("/*").unwrap()..end];
        let said = ["Exclusive on", "Thread-safe", "May run at the same time"];
        assert!(said.iter().any(|words| comment.contains(words)), "{name}: nothing about threads");
        let returns_code = header[..at].ends_with("msgport_code ");
        assert!(!returns_code || comment.contains("Codes "), "{name}: nothing about codes");
    }
}

#[test]
fn every_function_is_misused_by_a_test() {
    let misuse = fs::read_to_string(source("tests/c/misuse.c")).unwrap();
    for name in declared().0 {
        assert!(misuse.contains(&format!("{name}(")), "tests/c/misuse.c does not call {name}");
    }
}

/// The functions that an object calls, and the number of instructions in its function `once`.
fn look_into(object: &Path) -> (BTreeSet<String>, usize) {
    let undefined = succeed(Command::new("nm").arg("-u").arg(object));
    // The personality routine is named in tables for exceptions, not called.
    let not_calls = ["U", "_GLOBAL_OFFSET_TABLE_", "__gxx_personality_v0"];
    let calls = undefined.split_whitespace().filter(|word| !not_calls.contains(word));
    let code = succeed(Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(object));
    let from = code.lines().skip_while(|line| !(line.contains("once") && line.ends_with(">:"))).skip(1);
    let body = from.take_while(|line| !line.is_empty());
    let len = body.filter(|line| line.contains(":\t") && !line.contains("nop")).count();
    (calls.map(str::to_owned).collect(), len)
}

#[test]
fn cpp_costs_nothing_over_c() {
    let object = |name: &str, path: &str, flags: &[&str]| {
        let object = scratch("programs").join(format!("{name}-{}.o", std::process::id()));
        succeed(compile(&[source(path)], &[flags, STRICT, &["-O2", "-c"]].concat()).arg("-o").arg(&object));
        look_into(&object)
    };
    let (c_calls, c_len) = object("overhead-c", "tests/c/overhead.c", C);
    assert_eq!(c_calls.len(), 3, "{c_calls:?}");
    for version in CPP_VERSIONS {
        let (calls, len) = object("overhead-cpp", "tests/cpp/overhead.cpp", &[version]);
        // No allocation, no exceptions, nothing of the standard library; `free` for the handle that `prepare` replaces.
        let more: Vec<_> = calls.difference(&c_calls).collect();
        assert!(more.iter().all(|call| *call == "msgport_message_free"), "{version}: also calls {more:?}");
        // A quarter more, for making the handle, which the C function does with fewer checks.
        assert!(len <= c_len + c_len / 4, "{version}: {len} instructions instead of {c_len}");
        println!("{version}: {len} instructions, C: {c_len}");
    }
}

#[test]
fn lines_are_short() {
    for path in ["include/messageport.h", "include/messageport.hpp"] {
        for (number, line) in fs::read_to_string(source(path)).unwrap().lines().enumerate() {
            assert!(line.chars().count() <= 120, "{path}:{}: too long", number + 1);
        }
    }
}
