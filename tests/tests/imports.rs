//! The rooms of a crate stand one above the other: no file imports one that imports it, however far round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file's module: `format/own.rs` is `format::own`, and `lib.rs` is nothing.
type Module = Vec<String>;

/// Which modules each imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// What a file says of others: by which name, the path from the crate's root.
#[derive(Debug, Default, PartialEq)]
struct Named {
    /// What it uses itself.
    used: Vec<Module>,
    /// What it hands on, or has under a name of its own.
    names: BTreeMap<String, Module>,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn module(path: &Path) -> Module {
    let mut module: Module = path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("lib" | "mod")) {
        module.pop();
    }
    module
}

/// Leaves comments out, and what is compiled for tests alone, which stands at the end.
fn code(source: &str) -> String {
    let is_tests = |line: &&str| line.starts_with("mod tests {");
    let lines = source.lines().take_while(|line| !is_tests(line));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Reads the path that a text begins with, or the paths, where it goes on with braces: each with the name that it is
/// given. Returns what stands behind.
fn paths<'a>(mut text: &'a str, before: &[String], found: &mut Vec<(String, Module)>) -> &'a str {
    let mut path = before.to_vec();
    loop {
        text = text.trim_start();
        if let Some(inner) = text.strip_prefix('{') {
            text = inner.trim_start();
            while !text.is_empty() && !text.starts_with('}') {
                text = paths(text, &path, found).trim_start();
                text = text.strip_prefix(',').unwrap_or(text).trim_start();
            }
            return text.strip_prefix('}').unwrap_or(text);
        }
        let (word, rest) = word(text);
        match word {
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        match rest.strip_prefix("::") {
            Some(next) => text = next,
            None => {
                let (name, rest) = match rest.trim_start().strip_prefix("as ") {
                    Some(renamed) => self::word(renamed),
                    None => (&*path[path.len() - 1], rest),
                };
                found.push((name.to_owned(), path.clone()));
                return rest;
            }
        }
    }
}

/// Splits a text behind the word, or the star, that it begins with.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(text.len());
    // Something is always read.
    text.split_at(end.max(1).min(text.len()))
}

/// Reads which paths of its crate a file names.
fn named(code: &str, here: &Module, modules: &BTreeSet<Module>) -> Named {
    let (mut used, mut handed_on, mut rest) = (Vec::new(), Vec::new(), String::new());
    let mut statement = String::new();
    for line in code.lines() {
        let trimmed = line.trim_start();
        let begins =
            ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter().any(|use_| trimmed.starts_with(use_));
        if begins || !statement.is_empty() {
            statement.push_str(trimmed);
            if let Some((_, path)) = statement.split_once("use ").filter(|_| trimmed.ends_with(';')) {
                paths(path, &[], if statement.starts_with("pub") { &mut handed_on } else { &mut used });
                statement.clear();
            }
        } else {
            rest.extend([line, "\n"]);
        }
    }
    let mut spelled = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(start).filter(|(at, _)| !rest[..*at].ends_with(is_word)) {
            paths(&rest[at..], &[], &mut spelled);
        }
    }
    let from_root = |path: &Module| {
        let (mut from, mut path) = (here.clone(), &path[..]);
        match path[0].as_str() {
            "crate" => from.clear(),
            "self" => {}
            "super" => {
                while path.get(1).is_some_and(|next| next == "super") {
                    path = &path[1..];
                    from.pop();
                }
                from.pop();
            }
            // A path may begin with a module below this one, too.
            _ if modules.contains(&[&from[..], &path[..1]].concat()) => return Some([&from[..], path].concat()),
            _ => return None,
        }
        Some([&from[..], &path[1..]].concat())
    };
    let names = used.iter().chain(&handed_on).filter_map(|(name, path)| Some((name.clone(), from_root(path)?)));
    let used_paths = used.iter().chain(&spelled).filter_map(|(_, path)| from_root(path));
    Named { names: names.collect(), used: used_paths.collect() }
}

/// Returns the module in which what a path names is defined: where one hands it on, that in which it was.
fn defined_in(path: &[String], files: &BTreeMap<Module, Named>) -> Module {
    let len = (0..=path.len()).rev().find(|len| files.contains_key(&path[..*len])).expect("the root is a module");
    let (module, rest) = path.split_at(len);
    match rest.first().and_then(|name| files[module].names.get(name)) {
        Some(elsewhere) if elsewhere != path => defined_in(&[&elsewhere[..], &rest[1..]].concat(), files),
        _ => module.to_vec(),
    }
}

fn imports(source: &Path) -> Imports {
    let mut files = Vec::new();
    sources(source, &mut files);
    let read = |path: &PathBuf| (module(path.strip_prefix(source).unwrap()), code(&fs::read_to_string(path).unwrap()));
    let mut files: BTreeMap<Module, String> = files.iter().map(read).collect();
    files.retain(|module, _| module.last().is_none_or(|name| name != "tests"));
    let modules = files.keys().cloned().collect();
    let files = files.into_iter().map(|(here, code)| (here.clone(), named(&code, &here, &modules))).collect();
    let of = |here: &Module, named: &Named| {
        let used = named.used.iter().map(|path| defined_in(path, &files));
        (here.clone(), used.filter(|module| module != here).collect())
    };
    files.iter().map(|(here, named)| of(here, named)).collect()
}

/// Returns what can be reached from a module, itself only where it stands in a circle.
fn reached(imports: &Imports, from: &Module) -> BTreeSet<Module> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(imports[module].iter().filter(|imported| reached.insert((*imported).clone())));
    }
    reached
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in ["sosa", "sosa-memory", "sosa-redis", "sosa-sled", "session", "tests"] {
        let imports = imports(&root.join(name).join("src"));
        assert!(imports.values().any(|imported| !imported.is_empty()), "{name}: nothing was read");
        let circles: Vec<_> = imports
            .keys()
            .filter(|from| reached(&imports, from).contains(*from))
            .map(|module| module.join("::"))
            .collect();
        let tied: Vec<_> = imports
            .iter()
            .filter(|(module, _)| circles.contains(&module.join("::")))
            .map(|(module, imported)| {
                let tied = imported.iter().map(|module| module.join("::")).filter(|name| circles.contains(name));
                format!("{} -> {}", module.join("::"), tied.collect::<Vec<_>>().join(", "))
            })
            .collect();
        assert!(circles.is_empty(), "{name}: these import each other:\n{}\n", tied.join("\n"));
    }
}

#[test]
fn imports_are_read_as_they_are_written() {
    let module = |path: &str| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect::<Module>();
    let modules: BTreeSet<Module> = ["", "a", "a::b", "a::c", "d"].map(module).into();
    for (here, code, used, names) in [
        (
            "d",
            "use crate::a::{self, b::B, c::{C, D as E}};",
            vec!["a", "a::b::B", "a::c::C", "a::c::D"],
            vec![("B", "a::b::B"), ("C", "a::c::C"), ("E", "a::c::D"), ("a", "a")],
        ),
        (
            "a::b",
            "use super::c::C;\nuse super::super::d::*;",
            vec!["a::c::C", "d::*"],
            vec![("*", "d::*"), ("C", "a::c::C")],
        ),
        (
            "a",
            "pub(crate) use self::b::{\n    B,\n};\nfn f() { b::g(crate::d::h()) }",
            vec!["d::h"],
            vec![("B", "a::b::B")],
        ),
        ("", "pub use a::{b, X};\nuse std::fmt;", vec![], vec![("X", "a::X"), ("b", "a::b")]),
        ("d", "pub(crate) fn f() { self.a(); other::crate_a() }", vec![], vec![]),
    ] {
        let used = used.into_iter().map(module).collect();
        let names = names.into_iter().map(|(name, path)| (name.to_owned(), module(path))).collect();
        assert_eq!(named(code, &module(here), &modules), Named { used, names }, "{code}");
    }
}

#[test]
fn what_is_handed_on_is_an_import_from_where_it_is_defined() {
    let module = |path: &str| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect::<Module>();
    let named = |names: &[(&str, &str)]| Named {
        names: names.iter().map(|(name, path)| ((*name).to_owned(), module(path))).collect(),
        ..Named::default()
    };
    let files = [("", named(&[("X", "a::X")])), ("a", named(&[("X", "a::b::X")])), ("a::b", named(&[]))];
    let files = files.map(|(path, named)| (module(path), named)).into();
    for (path, expected) in [("X", "a::b"), ("X::new", "a::b"), ("a::X", "a::b"), ("a::Y", "a"), ("Y", "")] {
        assert_eq!(defined_in(&module(path), &files), module(expected), "{path}");
    }
}
