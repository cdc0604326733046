//! Holds the tables of ARCHITECTURE.md and the budgets of CONTRIBUTING.md against the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const FILE_LINES_P90: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "misc", "types"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

fn all_files() -> Vec<PathBuf> {
    [
        "src",
        "tests",
        "autoscale/src",
        "contract/src",
        "controller/src",
        "controller/tests",
        "kernels/src",
        "loadtest/src",
        "random/src",
        "fuzz/src",
        "benches",
    ]
    .iter()
    .flat_map(|folder| rust_files(&root().join(folder)))
    .collect()
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// The room a file of src/, or of another package's, is in; `None` for lib.rs.
fn room(path: &Path) -> Option<String> {
    let inner = ["src", "contract/src", "autoscale/src", "controller/src"]
        .iter()
        .find_map(|house| path.strip_prefix(root().join(house)).ok())?;
    let first = inner.components().next()?.as_os_str().to_str()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then(|| room.to_owned())
}

/// A table of ARCHITECTURE.md between its markers: first column to the words of the second.
fn table(marker: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let start = text.find(&format!("<!-- {marker} -->")).expect("the table's marker");
    let end = text.find(&format!("<!-- /{marker} -->")).expect("the table's end");
    let words =
        |cell: &str| cell.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
    let rows = text[start..end].lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        (cells[0].trim().to_owned(), words(cells[1]))
    })
    .collect()
}

/// The code of a file without comments and without what is only compiled for tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let shipped = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
    shipped.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Rooms that `code` names: `crate::room` and the members of `use crate::{...}`.
fn rooms_named(code: &str) -> Vec<String> {
    let identifier = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms: Vec<String> =
        code.split("crate::").skip(1).map(identifier).filter(|name| !name.is_empty()).collect();
    for group in code.split("crate::{").skip(1) {
        let mut depth = 0;
        let mut start = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && depth == 0 && !c.is_whitespace() => {
                    rooms.push(identifier(&group[index..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    check_imports("src", &table("imports"));
    check_imports("contract/src", &table("contract imports"));
    check_imports("autoscale/src", &table("autoscale imports"));
    check_imports("controller/src", &table("controller imports"));
}

fn check_imports(house: &str, allowed: &BTreeMap<String, Vec<String>>) {
    let mut faults = Vec::new();
    for path in rust_files(&root().join(house)) {
        let Some(own) = room(&path).filter(|room| room != "bin" && room != "main") else { continue };
        if is_test(&path) {
            continue;
        }
        let may = allowed.get(&own).unwrap_or_else(|| panic!("room '{own}' is missing from ARCHITECTURE.md"));
        for named in rooms_named(&code(&path)) {
            if named != own && allowed.contains_key(&named) && !may.contains(&named) {
                faults.push(format!("{} imports {named}, which {own} may not", shown(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_import_tables_have_no_cycle() {
    check_floors(&table("imports"));
    check_floors(&table("contract imports"));
    check_floors(&table("autoscale imports"));
    check_floors(&table("controller imports"));
}

fn check_floors(allowed: &BTreeMap<String, Vec<String>>) {
    let mut floors: Vec<String> = Vec::new();
    while floors.len() < allowed.len() {
        let next =
            allowed.iter().find(|(room, may)| !floors.contains(room) && may.iter().all(|other| floors.contains(other)));
        let (room, _) = next.expect("a room that imports only from below");
        floors.push(room.clone());
    }
}

#[test]
fn external_crates_stay_in_their_rooms() {
    check_crates("src", table("crates"));
    check_crates("controller/src", table("controller crates"));
}

fn check_crates(house: &str, allowed: BTreeMap<String, Vec<String>>) {
    let mut faults = Vec::new();
    for (crates, rooms) in allowed {
        for name in crates.split(',').map(str::trim) {
            for path in rust_files(&root().join(house)) {
                let Some(own) = room(&path) else { continue };
                let code = code(&path);
                let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = code[..at].chars().next_back();
                    // A path such as super::http:: or crate::server::http:: is a module of ours.
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if named && !rooms.contains(&own) {
                    faults.push(format!("{} names {name}, which belongs to {}", shown(&path), rooms.join(", ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for path in rust_files(&root().join("src")) {
        let allowed = path.starts_with(root().join("src/runtime")) || path.ends_with("src/tensor/buffer.rs");
        let code = code(&path);
        let has_unsafe = ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|form| code.contains(form));
        assert!(allowed || !has_unsafe, "{} has unsafe code", shown(&path));
    }
}

#[test]
fn files_keep_their_budget_and_have_names_that_say_something() {
    let mut lengths = Vec::new();
    for path in all_files() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines, at most {FILE_LINES_MAX}", shown(&path));
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap();
        assert!(!EMPTY_NAMES.contains(&name), "{} has a name that says nothing", shown(&path));
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let p90 = lengths[lengths.len() * 9 / 10];
    assert!(p90 <= FILE_LINES_P90, "one file in ten has more than {p90} lines, the budget is {FILE_LINES_P90}");
}

#[test]
fn functions_keep_their_budget() {
    let mut faults = Vec::new();
    for path in all_files() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let declaration = line.trim_start();
            let is_function = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "pub(super) async fn ",
                "const fn ",
                "pub const fn ",
                "unsafe fn ",
            ]
            .iter()
            .any(|form| declaration.starts_with(form));
            if !is_function || declaration.ends_with(';') {
                continue;
            }
            // rustfmt closes a function at the indentation where it opened it.
            let indent = line.len() - declaration.len();
            let close = format!("{}}}", " ".repeat(indent));
            let Some(length) = lines[start..].iter().position(|line| *line == close) else { continue };
            if length + 1 > FUNCTION_LINES_MAX {
                faults.push(format!("{}:{} has {} lines", shown(&path), start + 1, length + 1));
            }
        }
    }
    assert!(faults.is_empty(), "functions have at most {FUNCTION_LINES_MAX} lines:\n{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_undone() {
    for path in all_files().iter().filter(|path| !path.ends_with("tests/architecture.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for left in ["todo!(", "unimplemented!(", "#[ignore", "TODO", "FIXME", "dbg!("] {
            assert!(!text.contains(left), "{} has {left}", shown(path));
        }
    }
}
