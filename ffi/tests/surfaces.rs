//! docs/SURFACES.md has every operation of Rust, C and C++, so that one surface lacks what another has for a reason.

mod native;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use native::*;

/// The table, as the messages of the test name it.
const TABLE: &str = "docs/SURFACES.md";

/// Traits of Rust that are operations: their implementations must be in the table, other traits may.
const OPERATIONS: [&str; 2] = ["AsFd", "IntoIterator"];

/// The classes in `detail` of messageport.hpp whose members belong to public classes, with the name in the table.
const BASES: [(&str, &str); 5] =
    [("owner", "owner"), ("closing", "port"), ("sending", "port"), ("receiving", "port"), ("handling", "port")];

/// The classes of messageport.hpp that stand in for classes of later standard libraries.
const STAND_INS: [&str; 3] = ["bad_result_access", "result", "span"];

/// The names that a surface has. Rust and C++ names are `Type: name`, or `name` for free functions.
#[derive(Default)]
struct Surface {
    /// Must be in the table.
    required: BTreeSet<String>,
    /// May be in the table too.
    others: BTreeSet<String>,
}

impl Surface {
    fn has(&self, name: &str) -> bool {
        self.required.contains(name) || self.others.contains(name)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn first_name(text: &str) -> &str {
    text.split(|c| !is_of_name(c)).next().unwrap()
}

fn last_name(text: &str) -> &str {
    text.rsplit(|c| !is_of_name(c)).next().unwrap()
}

/// What follows the balanced `<...>` that `text` begins with, if it begins with one.
fn after_angles(text: &str) -> &str {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '<') - i32::from(c == '>');
        if depth == 0 {
            return if at == 0 { text } else { &text[at + 1..] };
        }
    }
    text
}

/// The name of the type that `text` begins with: `sys::Name<T>`, `&'a Name`, `dyn Name`.
fn type_name(text: &str) -> &str {
    let text = text.trim().trim_start_matches('&');
    let text = if text.starts_with('\'') { text.split_once(' ').map_or(text, |(_, rest)| rest) } else { text };
    let path = text.trim_start_matches("dyn ");
    last_name(path.split(|c: char| !is_of_name(c) && c != ':').next().unwrap())
}

// ---- Rust --------------------------------------------------------------------------------------------------------

/// The public names that `src/lib.rs` exports, and whether a name stands for all that it does: a module, or a type of
/// `typed`.
fn exports(lib: &str) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    let mut hidden = false;
    let mut statement = String::new();
    for line in lib.lines() {
        hidden |= line == "#[doc(hidden)]";
        if line.starts_with("pub use ") || !statement.is_empty() {
            statement += line.trim();
            if !line.ends_with(';') {
                continue;
            }
            let list = statement.rsplit("::").next().unwrap().trim_matches(['{', '}', ';']);
            let list = if statement.contains('{') { statement.split(['{', '}']).nth(1).unwrap() } else { list };
            let typed = statement.starts_with("pub use typed::");
            let exported = list.split(',').map(str::trim).filter(|name| !name.is_empty() && !hidden);
            names.extend(exported.map(|name| (name.to_owned(), typed)));
            statement.clear();
            hidden = false;
        } else if let Some(name) = line.strip_prefix("pub mod ") {
            names.push((name.trim_end_matches(';').to_owned(), true));
        }
    }
    names
}

fn rust() -> Surface {
    let mut surface = Surface::default();
    let mut types = BTreeSet::new();
    for (name, whole) in exports(&fs::read_to_string(source("../src/lib.rs")).unwrap()) {
        let is_function = name.starts_with(|c: char| c.is_ascii_lowercase());
        let list = if whole || is_function { &mut surface.required } else { &mut surface.others };
        list.insert(name.clone());
        if !whole && !is_function {
            types.insert(name);
        }
    }
    rust_folder(&source("../src"), &types, &mut surface);
    surface
}

fn rust_folder(folder: &Path, types: &BTreeSet<String>, surface: &mut Surface) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let has_one_row = path.ends_with("src/typed") || path.ends_with("src/aio");
            if !has_one_row {
                rust_folder(&path, types, surface);
            }
        } else {
            rust_file(&fs::read_to_string(&path).unwrap(), types, surface);
        }
    }
}

/// Relies on rustfmt: what begins in the first column is an item of the file.
fn rust_file(text: &str, types: &BTreeSet<String>, surface: &mut Surface) {
    let mut of: Option<&str> = None;
    let mut hidden = false;
    let mut derived: Vec<&str> = Vec::new();
    for line in text.lines() {
        let code = line.trim_start();
        let top = code.len() == line.len();
        if code.starts_with("#[doc(hidden)]") {
            hidden = true;
        } else if let Some(list) = line.strip_prefix("#[derive(") {
            derived.extend(list.trim_end_matches(")]").split(", "));
        } else if top && line.starts_with("impl") {
            let head = after_angles(&line["impl".len()..]);
            match head.split_once(" for ") {
                None => of = Some(type_name(head)),
                Some((implemented, implementor)) => {
                    of = None;
                    let (implemented, name) = (type_name(implemented), type_name(implementor));
                    if types.contains(name) {
                        let must = OPERATIONS.contains(&implemented);
                        let list = if must { &mut surface.required } else { &mut surface.others };
                        list.insert(format!("{name}: {implemented}"));
                    }
                }
            }
        } else if top && (line.starts_with("pub struct ") || line.starts_with("pub enum ")) {
            let name = first_name(line.split(' ').nth(2).unwrap());
            of = Some(name);
            surface.others.extend(derived.drain(..).map(|derived| format!("{name}: {derived}")));
        } else if top && line.starts_with('}') {
            of = None;
            derived.clear();
        }
        if let (Some(name), Some(public)) = (of.filter(|name| types.contains(*name)), code.strip_prefix("pub ")) {
            if let Some((qualifiers, rest)) = public.split_once("fn ") {
                if qualifiers.split(' ').all(|word| ["", "const", "unsafe", "async"].contains(&word)) && !hidden {
                    surface.required.insert(format!("{name}: {}", first_name(rest)));
                }
            } else if !top && first_name(public).len() + 1 < public.len() && public.contains(": ") {
                surface.others.insert(format!("{name}: {}", first_name(public))); // a field
            }
        }
        hidden &= code.starts_with("#[") || code.starts_with("//");
    }
}

// ---- C -----------------------------------------------------------------------------------------------------------

fn c() -> Surface {
    let mut surface = Surface::default();
    surface.required.extend(include_str!("golden.txt").lines().map(str::to_owned));
    surface.required.extend(declared().1);
    let code = without_comments(&fs::read_to_string(source("include/messageport.h")).unwrap());
    let words = code.split(|c| !is_of_name(c)).filter(|word| word.to_lowercase().starts_with("msgport_"));
    surface.others.extend(words.map(str::to_owned));
    for list in code.split("typedef struct ").skip(1) {
        let Some((name, fields)) = list.split_once(" {") else { continue };
        if name.chars().all(is_of_name) {
            let fields = fields.split('}').next().unwrap().split(';').map(|field| last_name(field.trim()));
            surface.others.extend(fields.map(|field| format!("{name}: {field}")));
        }
    }
    surface
}

// ---- C++ ---------------------------------------------------------------------------------------------------------

/// What an open brace belongs to.
enum Scope {
    Namespace,
    Detail,
    /// A class with its name in the table, or `None` if the table leaves it out.
    Class {
        name: Option<String>,
        public: bool,
    },
}

fn cpp() -> Surface {
    let mut surface = Surface::default();
    let header = fs::read_to_string(source("include/messageport.hpp")).unwrap();
    let mut code = String::new();
    // The inline namespace begins in three ways and ends once, and no name depends on it.
    let skipped = ["#", "inline namespace ", "} // inline namespace"];
    for line in header.lines().filter(|line| !skipped.iter().any(|start| line.starts_with(start))) {
        writeln!(code, "{}", line.split("//").next().unwrap()).unwrap();
    }
    let mut scopes: Vec<Scope> = Vec::new();
    let (mut declaration, mut parens, mut body) = (String::new(), 0, 0);
    for c in code.chars() {
        if body > 0 {
            body += i32::from(c == '{') - i32::from(c == '}');
            continue;
        }
        parens += i32::from(c == '(') - i32::from(c == ')');
        match c {
            '{' if parens == 0 => {
                let head = without_template(declaration.trim()).to_owned();
                if head.starts_with("namespace") {
                    scopes.push(if head.contains("detail") { Scope::Detail } else { Scope::Namespace });
                    declaration.clear();
                } else if head.starts_with("class ") || head.starts_with("struct ") {
                    scopes.push(class(&head, scopes.last()));
                    declaration.clear();
                } else {
                    member(&head, scopes.last(), &mut surface);
                    declaration.clear();
                    body = 1;
                }
            }
            '}' if parens == 0 => {
                assert!(scopes.pop().is_some(), "a brace that closes nothing: {declaration}");
                declaration.clear();
            }
            ';' if parens == 0 => {
                member(without_template(declaration.trim()), scopes.last(), &mut surface);
                declaration.clear();
            }
            ':' if ["public", "private", "protected"].contains(&declaration.trim()) => {
                if let Some(Scope::Class { public, .. }) = scopes.last_mut() {
                    *public = declaration.trim() == "public";
                }
                declaration.clear();
            }
            _ => declaration.push(c),
        }
    }
    assert!(scopes.is_empty(), "a brace that nothing closes");
    surface
}

/// A declaration without `template <...>` and attributes in front.
fn without_template(mut declaration: &str) -> &str {
    loop {
        declaration = if let Some(rest) = declaration.strip_prefix("template") {
            after_angles(rest.trim_start()).trim_start()
        } else if let Some((_, rest)) = declaration.strip_prefix("[[").and_then(|rest| rest.split_once("]]")) {
            rest.trim_start()
        } else {
            return declaration;
        };
    }
}

fn class(head: &str, outer: Option<&Scope>) -> Scope {
    let public = head.starts_with("struct ");
    let name = first_name(without_template(head.split_once(' ').unwrap().1));
    let name = match outer {
        Some(Scope::Detail) => BASES.iter().find(|(base, _)| *base == name).map(|(_, shown)| *shown),
        // A class in a class is an iterator.
        Some(Scope::Class { .. }) => None,
        _ => Some(name).filter(|name| !STAND_INS.contains(name)),
    };
    Scope::Class { name: name.map(str::to_owned), public }
}

fn member(declaration: &str, scope: Option<&Scope>, surface: &mut Surface) {
    let skipped = ["friend", "using", "class", "struct", "enum", "static_assert"];
    let is_function = declaration.contains('(');
    let until = declaration.find(if is_function { ['('; 2] } else { ['=', '{'] }).unwrap_or(declaration.len());
    let before = declaration[..until].trim_end();
    let name = last_name(before);
    let qualifiers = &before[..before.len() - name.len()];
    if name.is_empty() || skipped.contains(&first_name(declaration)) || qualifiers.ends_with(['~', ':']) {
        return;
    }
    if before.split(|c| !is_of_name(c)).any(|word| word == "operator") {
        return;
    }
    match scope {
        Some(Scope::Class { name: Some(class), public: true }) => {
            // A constructor has no type before its name.
            let words = qualifiers.split(' ').filter(|word| !["", "explicit", "constexpr"].contains(word));
            if words.count() > 0 {
                surface.required.insert(format!("{class}: {name}"));
            }
        }
        Some(Scope::Namespace) if is_function => {
            surface.required.insert(name.to_owned());
        }
        _ => {}
    }
}

// ---- The table ---------------------------------------------------------------------------------------------------

/// The names of a cell: `A, B: x, y; free` is `A: x`, `A: y`, `B: x`, `B: y`, `free`. A cell `-` has none.
fn names(cell: &str) -> Vec<String> {
    let mut names = Vec::new();
    for group in cell.split(';').map(str::trim).filter(|group| !group.is_empty() && *group != "-") {
        let (types, members) = group.split_once(':').unwrap_or(("", group));
        for of in types.split(',').map(str::trim) {
            let members = members.split(',').map(str::trim);
            names.extend(members.map(|name| if of.is_empty() { name.to_owned() } else { format!("{of}: {name}") }));
        }
    }
    names
}

#[test]
fn the_table_has_every_operation_of_the_three_surfaces() {
    let table = fs::read_to_string(source("../docs/SURFACES.md")).unwrap();
    let surfaces = [("Rust", rust()), ("C", c()), ("C++", cpp())];
    // A scan that finds nothing would let everything pass.
    for (surface, known) in surfaces.iter().zip(["MessagePort: recv", "msgport_port_recv", "port: recv"]) {
        assert!(surface.1.required.contains(known), "the scan of {} has not found {known}", surface.0);
    }
    let mut wrong = String::new();
    for name in surfaces[2].1.required.iter().filter_map(|name| name.strip_suffix("_for")) {
        if !surfaces[2].1.has(&format!("{name}_until")) {
            writeln!(wrong, "include/messageport.hpp: `{name}_for` has no `{name}_until` beside it").unwrap();
        }
    }
    let mut seen = [const { BTreeSet::new() }; 3];
    for (number, line) in (1..).zip(table.lines()).filter(|(_, line)| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [rust, c, cpp, reason] = cells[..] else {
            writeln!(wrong, "{TABLE}:{number}: a row has four cells: Rust, C, C++, reason").unwrap();
            continue;
        };
        if rust == "Rust" || rust.starts_with("---") {
            continue;
        }
        let cells = [rust, c, cpp].map(names);
        if cells.iter().any(Vec::is_empty) && reason.is_empty() {
            writeln!(wrong, "{TABLE}:{number}: a cell is missing, and there is no reason: {line}").unwrap();
        }
        for ((list, (language, surface)), seen) in cells.into_iter().zip(&surfaces).zip(&mut seen) {
            for name in list {
                if !surface.has(&name) {
                    writeln!(wrong, "{TABLE}:{number}: {language} has no `{name}`").unwrap();
                }
                seen.insert(name);
            }
        }
    }
    for ((language, surface), seen) in surfaces.iter().zip(&seen) {
        for name in surface.required.difference(seen) {
            let row = match *language {
                "Rust" => format!("| {name} | - | - | why C and C++ do without |"),
                "C" => format!("| - | {name} | - | why Rust and C++ do without |"),
                _ => format!("| - | - | {name} | why Rust and C do without |"),
            };
            writeln!(wrong, "{TABLE}: no row has `{name}` of {language}: add it to a row, or the row {row}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
