//! The layers of `src`: no dependency runs backwards between folders, and no files of one folder form a cycle.
//!
//! A folder is a module at the top of the crate: the file `src/<name>.rs` and the files below `src/<name>/`. The test
//! reads the `use` lines and the paths in the code that begin with `crate`, `super`, `self` or a module of the file.
//! Modules for tests do not count.

#[path = "layers/graph.rs"]
mod graph;
#[path = "layers/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use graph::{Edge, cycles, edges};
use source::{Source, rust_files, uses};

/// The folders, from the lowest layer up. A folder uses folders of lower layers only, and none of its own layer.
const LAYERS: [&[&str]; 9] = [
    &["model", "memory_budget", "outgoing", "tls_roots"],
    &["telemetry"],
    &["config"],
    &["store", "auth"],
    &["presence", "events"],
    &["registration", "sweeper", "webhooks", "moving"],
    &["http"],
    &["net"],
    &["server", "healthcheck"],
];

/// The parts of `src/store/redis`, from the lowest layer up.
const REDIS_LAYERS: [&[&str]; 8] = [
    &[
        "arguments",
        "format",
        "former_members",
        "logged_causes",
        "scripts",
    ],
    &["cluster"],
    &["connection"],
    &["node", "subscription"],
    &["routing"],
    &["batches"],
    &["store"],
    &["calls"],
];

fn layer_of(part: &str, layers: &[&[&str]]) -> usize {
    let layer = layers.iter().position(|layer| layer.contains(&part));
    layer.unwrap_or_else(|| panic!("{part} has no layer: add it in tests/layers.rs"))
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&src).into_iter();
    let sources = files.map(|path| Source::read(&src, &path));
    // Both stand above all layers.
    sources
        .filter(|source| !matches!(source.module.as_str(), "lib" | "main"))
        .collect()
}

#[test]
fn no_dependency_runs_backwards_between_folders() {
    let sources = sources();
    let edges = edges(&sources);
    let backwards = edges.iter().filter(|edge| {
        let (from, to) = (edge.user_folder(), edge.used_folder());
        from != to && (to == "lib" || layer_of(from, &LAYERS) <= layer_of(to, &LAYERS))
    });
    assert_none(backwards);
}

#[test]
fn no_dependency_runs_backwards_inside_the_redis_store() {
    let edges = edges(&sources());
    let part = |module: &str| {
        let below = module.strip_prefix("store/redis/")?;
        below.split('/').next().map(str::to_owned)
    };
    let backwards = edges.iter().filter(|edge| {
        let (Some(from), Some(to)) = (part(&edge.from), part(&edge.to)) else {
            return false;
        };
        from != to && layer_of(&from, &REDIS_LAYERS) <= layer_of(&to, &REDIS_LAYERS)
    });
    assert_none(backwards);
}

fn assert_none<'a>(backwards: impl Iterator<Item = &'a Edge>) {
    let backwards: Vec<String> = backwards.map(Edge::to_string).collect();
    assert!(
        backwards.is_empty(),
        "these lines use a folder that is not below their own:\n{}",
        backwards.join("\n")
    );
}

#[test]
fn no_files_of_a_folder_form_a_cycle() {
    let sources = sources();
    let cycles = cycles(&edges(&sources));
    let cycles: Vec<String> = cycles
        .iter()
        .map(|cycle| {
            let lines: Vec<String> = cycle.iter().map(|edge| format!("  {edge}")).collect();
            lines.join("\n")
        })
        .collect();
    assert!(
        cycles.is_empty(),
        "{} cycles between files:\n{}",
        cycles.len(),
        cycles.join("\n\n")
    );
}

/// rustc does not report a `pub` item of a library that nothing uses.
#[test]
fn the_library_exports_only_what_main_the_tests_and_the_benches_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exports = source::exports(&root.join("src/lib.rs"));
    assert!(exports.contains("Server"), "{exports:?}");
    let mut users = rust_files(&root.join("tests"));
    users.extend(rust_files(&root.join("benches")));
    users.push(root.join("src/main.rs"));
    let used: BTreeSet<String> = users
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).expect("a file of ours");
            uses(&text, "presence")
        })
        .collect();
    let unused: Vec<&String> = exports.difference(&used).collect();
    assert!(unused.is_empty(), "src/lib.rs exports in vain: {unused:?}");
}
