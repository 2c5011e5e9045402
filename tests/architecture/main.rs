//! Imports point down: what each module of `src/` names, read from the source itself.
//!
//! Paths that start with `crate`, `super` or `self` count, in `use` and inline; comments, strings and what is only built
//! for tests do not. A name that a parent re-exports counts as the parent's.

mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use self::reader::{paths, tokens};

/// What each module of `src/` may name. A row lists what it names today: a new import needs a new entry here, and
/// ARCHITECTURE.md says which would be wrong.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("runtime", &["error"]),
    ("checkpoints", &["error", "runtime"]),
    ("hub", &["error", "runtime"]),
    ("images", &["error", "runtime"]),
    ("prompts", &["error"]),
    ("schedulers", &["checkpoints", "error"]),
    ("nn", &["checkpoints", "runtime"]),
    ("datasets", &["error", "hub", "images", "runtime"]),
    ("models", &["checkpoints", "error", "hub", "images", "nn", "prompts", "runtime", "schedulers"]),
    ("axes", &["error", "models", "schedulers"]),
    ("metrics", &["checkpoints", "error", "images", "models", "nn", "runtime"]),
    ("pipelines", &["error", "images", "models", "runtime", "schedulers"]),
    ("run", &["axes", "error", "metrics", "runtime"]),
    ("report", &["axes", "error", "images", "metrics", "run", "runtime"]),
    ("view", &["error", "images", "metrics", "report", "run", "runtime"]),
    ("mlflow", &["error", "hub", "report", "runtime"]),
    ("workers", &["error", "runtime"]),
    (
        "experiment",
        &[
            "axes",
            "datasets",
            "error",
            "images",
            "metrics",
            "models",
            "pipelines",
            "prompts",
            "run",
            "runtime",
            "workers",
        ],
    ),
    ("cluster", &["error", "run", "runtime"]),
    ("cli", &["error", "images", "metrics", "runtime", "schedulers"]),
    (
        "commands",
        &[
            "axes",
            "cli",
            "cluster",
            "error",
            "experiment",
            "hub",
            "images",
            "metrics",
            "mlflow",
            "models",
            "pipelines",
            "prompts",
            "report",
            "run",
            "runtime",
            "view",
            "workers",
        ],
    ),
];

/// Modules by their path below `src/` (`["models", "blip"]`) with what they name.
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn imports_point_down() {
    let imports = imports(&sources());
    assert!(imports.len() > 200, "only {} modules were read", imports.len());
    let wrong = upward(&imports, MAY_NAME);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_folder_has_a_circle() {
    let found = circles(&imports(&sources()));
    assert!(found.is_empty(), "modules that name each other, in a circle: {found:?}");
}

/// The table is itself a way down: each row names rows above it in the table, and the rules that it must never lose hold.
#[test]
fn the_table_leads_down_only() {
    for (at, (module, may)) in MAY_NAME.iter().enumerate() {
        for named in *may {
            assert!(MAY_NAME[..at].iter().any(|(below, _)| below == named), "{module} may not name {named}");
        }
        assert!(!may.contains(&"cli") || *module == "commands", "{module} names cli");
    }
    let may = |module: &str| MAY_NAME.iter().find(|(name, _)| *name == module).unwrap().1;
    assert!(!may("report").contains(&"models") && !may("report").contains(&"experiment"));
    assert!(!may("models").contains(&"experiment"));
}

/// The sources of the library by their path below `src/`, without `main.rs`.
fn sources() -> Vec<(String, String)> {
    fn read(folder: &Path, root: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, root, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                into.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    sources.retain(|(name, _)| name != "main.rs" && name != "lib.rs");
    sources
}

fn module_of(file: &str) -> Vec<String> {
    let mut path: Vec<String> = file.trim_end_matches(".rs").split('/').map(String::from).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

fn imports(sources: &[(String, String)]) -> Imports {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|(file, _)| module_of(file)).collect();
    let named = |(file, text): &(String, String)| {
        let module = module_of(file);
        let whole = paths(&tokens(text), &module);
        // The longest start of a path that is a module; the rest of it is an item.
        let known = |path: Vec<String>| {
            (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|start| modules.contains(start))
        };
        let named = whole.into_iter().filter_map(known).filter(|other| *other != module).collect();
        (module, named)
    };
    sources.iter().map(named).collect()
}

/// What the table does not allow, one line each.
fn upward(imports: &Imports, table: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (module, named) in imports {
        let name = module.join("::");
        let Some((_, may)) = table.iter().find(|(row, _)| *row == module[0]) else {
            wrong.push(format!("{name} has no row in the table of tests/architecture/main.rs"));
            continue;
        };
        for other in named.iter().filter(|other| other[0] != module[0] && !may.contains(&other[0].as_str())) {
            wrong.push(format!("{name} names {}, which {} may not", other.join("::"), module[0]));
        }
    }
    wrong
}

/// Each folder in which modules name each other in a circle, with the modules of the circle. What a folder's own
/// `mod.rs` names does not count: a parent and its children may name each other.
fn circles(imports: &Imports) -> Vec<(String, Vec<String>)> {
    let folders: BTreeSet<&[String]> =
        imports.keys().flat_map(|module| (0..module.len()).map(|n| &module[..n])).collect();
    let mut found = Vec::new();
    for folder in folders {
        let inside = |module: &[String]| {
            (module.len() > folder.len() && module.starts_with(folder)).then(|| module[folder.len()].clone())
        };
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, named) in imports {
            let Some(from) = inside(module) else { continue };
            let to = named.iter().filter_map(|other| inside(other)).filter(|to| *to != from);
            edges.entry(from.clone()).or_default().extend(to);
        }
        let reach: BTreeMap<&String, BTreeSet<String>> =
            edges.keys().map(|from| (from, reached(from, &edges))).collect();
        let mut done = BTreeSet::new();
        for (from, there) in &reach {
            let circle: Vec<String> =
                there.iter().filter(|to| reach.get(to).is_some_and(|back| back.contains(*from))).cloned().collect();
            if circle.len() > 1 && done.insert(circle.clone()) {
                found.push((folder.join("/"), circle));
            }
        }
    }
    found
}

/// All that can be reached from a module, itself only in a circle.
fn reached(from: &str, edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in edges.get(at).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(files: &[(&str, &str)]) -> Imports {
        imports(&files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect::<Vec<_>>())
    }

    fn named(imports: &Imports, module: &str) -> Vec<String> {
        imports[&module.split("::").map(String::from).collect::<Vec<_>>()].iter().map(|path| path.join("::")).collect()
    }

    const MODULES: [(&str, &str); 6] = [
        ("low.rs", ""),
        ("high/mod.rs", ""),
        ("high/a.rs", ""),
        ("high/b/mod.rs", ""),
        ("high/b/deep.rs", ""),
        ("other.rs", ""),
    ];

    fn with(file: &str, text: &str) -> Imports {
        let files: Vec<_> =
            MODULES.iter().map(|(name, old)| (*name, if *name == file { text } else { *old })).collect();
        fixture(&files)
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        let cases: &[(&str, &str, &str, &[&str])] = &[
            ("low.rs", "use crate::high::a::Thing;", "low", &["high::a"]),
            (
                "low.rs",
                "pub(crate) use crate::{high::{self, b::{deep::X as Y, *}}, other};",
                "low",
                &["high", "high::b", "high::b::deep", "other"],
            ),
            ("low.rs", "fn f<'a>(x: &'a crate::other::T) -> char { '\"' }", "low", &["other"]),
            ("low.rs", "fn f() { let c = '\\''; crate::high::a::g(); }", "low", &["high::a"]),
            ("high/b/deep.rs", "use super::super::a; use super::Own;", "high::b::deep", &["high::a", "high::b"]),
            ("high/b/mod.rs", "use self::deep::X;", "high::b", &["high::b::deep"]),
            (
                "high/a.rs",
                "mod inner { use super::super::b::deep; fn f() {} } use super::b;",
                "high::a",
                &["high::b", "high::b::deep"],
            ),
            ("high/a.rs", "use crate::{low, other}; use super::b::{self};", "high::a", &["high::b", "low", "other"]),
        ];
        for (file, text, module, expected) in cases {
            assert_eq!(named(&with(file, text), module), *expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_code_of_the_library_is_not_seen() {
        for text in [
            "// use crate::high::a;\n/* crate::high /* crate::other */ crate::high */",
            "//! [`crate::high`]\nconst A: &str = \"use crate::high; \\\" crate::other\";",
            "const A: &str = r#\"crate::high \" crate::other\"#;",
            "#[cfg(test)]\nmod tests { use crate::high; fn f() { crate::other::g() } }",
            "#[cfg(test)]\nuse crate::high::a;\n#[cfg(test)]\npub fn f(x: [u8; 2]) -> crate::other::X { x }",
            "use anyhow::Result; use std::{fs, io}; pub(crate) fn f(&self) { self.high() }",
        ] {
            assert!(named(&with("low.rs", text), "low").is_empty(), "{text}");
        }
        // It ends with the item.
        let after = with("low.rs", "#[cfg(test)]\nmod tests { fn f() { if x {} } }\nuse crate::other;");
        assert_eq!(named(&after, "low"), ["other"]);
    }

    #[test]
    fn an_import_that_points_up_is_found() {
        let table: &[(&str, &[&str])] = &[("low", &[]), ("other", &["low"]), ("high", &["low", "other"])];
        assert!(upward(&with("high/a.rs", "use crate::{low, other}; use super::b;"), table).is_empty());
        let found = upward(&with("low.rs", "fn f() { crate::high::a::g() }"), table);
        assert_eq!(found, ["low names high::a, which low may not"]);
        let found = upward(&with("low.rs", ""), &table[..2]);
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("high has no row"), "{found:?}");
    }

    #[test]
    fn a_circle_in_a_folder_is_found_and_parent_and_child_are_none() {
        let found = |files: &[(&str, &str)]| circles(&fixture(files));
        let circle = |folder: &str, names: &[&str]| (folder.to_string(), names.iter().map(|n| n.to_string()).collect());
        assert!(found(&[("f/mod.rs", "use self::a::A;"), ("f/a.rs", "use super::B;")]).is_empty());
        assert!(found(&[("f/mod.rs", ""), ("f/a.rs", "use super::b::X;"), ("f/b.rs", "")]).is_empty());
        // Of three, one of them below a folder of its own; the fourth only leads there.
        let three = [
            ("f/mod.rs", ""),
            ("f/a.rs", "use super::b::X;"),
            ("f/b/mod.rs", ""),
            ("f/b/deep.rs", "fn f() { crate::f::c::g() }"),
            ("f/c.rs", "use crate::f::a;"),
            ("f/d.rs", "use super::{a, b};"),
        ];
        assert_eq!(found(&three), [circle("f", &["a", "b", "c"])]);
        assert_eq!(found(&[("x.rs", "use crate::y;"), ("y.rs", "use super::x::Z;")]), [circle("", &["x", "y"])]);
    }
}
