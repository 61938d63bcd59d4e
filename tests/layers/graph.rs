//! Which file uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::source::{Source, Used};

/// A line of one file that uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    line: usize,
    path: String,
}

impl Edge {
    /// The folder of the file that uses.
    pub(crate) fn user_folder(&self) -> &str {
        folder(&self.from)
    }

    /// The folder of the file that is used.
    pub(crate) fn used_folder(&self) -> &str {
        folder(&self.to)
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            line,
            path,
        } = self;
        write!(f, "src/{from}.rs:{line} uses {path} of src/{to}.rs")
    }
}

fn folder(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

/// Every use of a file by another. A name that a file re-exports counts as its own.
pub(crate) fn edges(sources: &[Source]) -> Vec<Edge> {
    let modules: BTreeSet<&str> = sources.iter().map(|source| &*source.module).collect();
    let mut edges = BTreeSet::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        for used in &source.paths {
            let Some(to) = resolve(source, used, &modules) else {
                continue;
            };
            if to != source.module {
                edges.insert(Edge {
                    from: source.module.clone(),
                    to,
                    line: used.line,
                    path: used.segments.join("::"),
                });
            }
        }
    }
    edges.into_iter().collect()
}

/// The file of the module that a path leads to; `None` if it leads out of the crate.
fn resolve(source: &Source, used: &Used, modules: &BTreeSet<&str>) -> Option<String> {
    let mut base: Vec<&str> = source.module.split('/').collect();
    let mut segments = used.segments.iter().map(String::as_str).peekable();
    let first = *segments.peek()?;
    match first {
        "crate" => {
            base.clear();
            segments.next();
        }
        "self" => {
            segments.next();
        }
        "super" => {
            while segments.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        child if source.children.contains(child) => {}
        _ => return None,
    }
    let mut path: Vec<&str> = base.into_iter().chain(segments).collect();
    while !path.is_empty() && !modules.contains(&*path.join("/")) {
        path.pop();
    }
    let is_root = path.is_empty();
    Some(if is_root {
        "lib".to_owned()
    } else {
        path.join("/")
    })
}

/// The uses among files of one folder that form cycles, grouped by cycle.
pub(crate) fn cycles(edges: &[Edge]) -> Vec<Vec<Edge>> {
    let inside = edges
        .iter()
        .filter(|edge| edge.user_folder() == edge.used_folder());
    let inside: Vec<&Edge> = inside.collect();
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in &inside {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = next
        .keys()
        .map(|from| (*from, reach(from, &next)))
        .collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|set| set.contains(to));
    let mut cycles: BTreeMap<&str, Vec<Edge>> = BTreeMap::new();
    for edge in inside {
        if reaches(&edge.to, &edge.from) {
            // All files of a cycle reach each other, so the first of them names it.
            let files = reached[&*edge.from].iter();
            let mut files = files.filter(|file| reaches(file, &edge.from));
            let name = files.next().expect("at least this file");
            cycles.entry(name).or_default().push(edge.clone());
        }
    }
    cycles.into_values().collect()
}

/// The files that `from` uses, directly or through other files.
fn reach<'a>(from: &str, next: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&str> = next.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = left.pop() {
        if reached.insert(file) {
            left.extend(next.get(file).into_iter().flatten().copied());
        }
    }
    reached
}
