//! Reads the paths that a Rust file uses, without a parser for all of Rust.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src`.
pub(crate) struct Source {
    /// The path of the module, such as `store/redis` for `src/store/redis.rs`.
    pub(crate) module: String,
    /// The modules that the file declares, without modules for tests.
    pub(crate) children: BTreeSet<String>,
    pub(crate) paths: Vec<Used>,
}

/// A path that a file uses.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// The Rust files in `folder` and below, sorted, without modules for tests.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return files;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

impl Source {
    pub(crate) fn read(src: &Path, path: &Path) -> Self {
        let module = path.strip_prefix(src).expect("a file of src");
        let module = module.with_extension("").display().to_string();
        let text = fs::read_to_string(path).expect("a file of ours");
        let text = without_tests(&without_comments_and_strings(&text));
        let paths = all_paths(&text);
        let children = declared_modules(&text);
        Self {
            module,
            children,
            paths,
        }
    }

    /// Whether the file is a module for tests, such as `hub/tests`.
    pub(crate) fn is_test(&self) -> bool {
        self.module.split('/').any(|part| part == "tests")
    }
}

/// The names that `lib.rs` exports.
pub(crate) fn exports(lib: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(lib).expect("the library");
    let text = without_comments_and_strings(&text);
    let mut exports = BTreeSet::new();
    for line in text.split(';').map(str::trim) {
        if let Some(module) = line.strip_prefix("pub mod ") {
            exports.insert(module.to_owned());
        } else if let Some(tree) = line.strip_prefix("pub use ") {
            let leaves = leaves(tree).into_iter();
            exports.extend(leaves.filter_map(|(_, path)| path.last().cloned()));
        }
    }
    exports
}

/// What follows `krate::` in the paths of a file, in `use` lines and elsewhere.
pub(crate) fn uses(text: &str, krate: &str) -> Vec<String> {
    let paths = all_paths(&without_comments_and_strings(text));
    let paths = paths.into_iter().map(|used| used.segments);
    let ours = paths.filter(|segments| segments.len() > 1 && segments[0] == krate);
    ours.map(|segments| segments[1].clone()).collect()
}

/// The paths of a text without comments, in `use` lines and elsewhere.
fn all_paths(text: &str) -> Vec<Used> {
    let mut paths = Vec::new();
    let rest = take_uses(text, &mut paths);
    inline_paths(&rest, &mut paths);
    paths
}

/// Replaces comments and the contents of strings by spaces. Line numbers do not change.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut clean = String::new();
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            clean.push(chars[at]);
            at += 1;
        } else {
            clean.extend(chars[at..end].iter().map(|c| blank(*c)));
            at = end;
        }
    }
    clean
}

/// What takes the place of a character that does not count.
fn blank(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

/// The end of the comment, string or character that begins at `at`; `at` if none begins there.
fn skipped(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or(' ');
    let find = |from: usize, wanted: &[char]| {
        let rest = chars.get(from..).unwrap_or_default();
        let found = rest.windows(wanted.len()).position(|part| part == wanted);
        found.map_or(chars.len(), |found| from + found)
    };
    match (chars[at], next) {
        ('/', '/') => find(at, &['\n']),
        ('/', '*') => find(at + 2, &['*', '/']) + 2,
        ('r', '"') => find(at + 2, &['"']) + 1,
        ('r', '#') if chars.get(at + 2) == Some(&'"') => find(at + 3, &['"', '#']) + 2,
        ('"', _) => end_of_string(chars, at + 1, '"'),
        ('\'', '\\') => end_of_string(chars, at + 1, '\''),
        // A lifetime has no second apostrophe.
        ('\'', _) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
    .min(chars.len())
}

fn end_of_string(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Replaces every item under `#[cfg(test)]` by spaces.
fn without_tests(text: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut rest = text.to_owned();
    while let Some(start) = rest.find(MARK) {
        let body = &rest[start + MARK.len()..];
        let (semicolon, brace) = (body.find(';'), body.find('{'));
        let length = match (semicolon, brace) {
            (Some(end), None) => end + 1,
            (Some(end), Some(open)) if end < open => end + 1,
            (_, Some(open)) => open + matching_brace(&body[open..]),
            (None, None) => body.len(),
        };
        let end = start + MARK.len() + length;
        let blank: String = rest[start..end].chars().map(blank).collect();
        rest.replace_range(start..end, &blank);
    }
    rest
}

/// The length of the block that `text` begins with.
fn matching_brace(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

fn declared_modules(text: &str) -> BTreeSet<String> {
    let statements = text.split([';', '{', '}']).map(str::trim);
    let names = statements.filter_map(|statement| {
        let (before, name) = statement.rsplit_once("mod ")?;
        let is_declared = before.is_empty() || before.ends_with([' ', '\n']);
        (is_declared && is_word(name)).then(|| name.to_owned())
    });
    names.collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_in_word)
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Reads the `use` lines into `paths`; the text without them.
fn take_uses(text: &str, paths: &mut Vec<Used>) -> String {
    let mut rest = text.to_owned();
    let mut from = 0;
    while let Some(found) = rest[from..].find("use ") {
        let start = from + found;
        from = start + "use ".len();
        let is_statement = !rest[..start].ends_with(is_in_word);
        let Some(length) = rest[from..].find(';').filter(|_| is_statement) else {
            continue;
        };
        let tree = &rest[from..from + length];
        for (at, segments) in leaves(tree) {
            let line = line_of(&rest, from + at);
            paths.push(Used { line, segments });
        }
        let blank: String = rest[start..from + length].chars().map(blank).collect();
        rest.replace_range(start..from + length, &blank);
    }
    rest
}

/// The paths of a `use` tree, each with where it ends in the text.
fn leaves(tree: &str) -> Vec<(usize, Vec<String>)> {
    let mut leaves = Vec::new();
    let mut prefixes: Vec<Vec<String>> = vec![Vec::new()];
    let (mut path, mut word) = (Vec::new(), String::new());
    let mut at = 0;
    for (here, c) in tree.char_indices().chain([(tree.len(), ',')]) {
        if is_in_word(c) || c == '*' {
            word.push(c);
            at = here;
            continue;
        }
        if !word.is_empty() {
            path.push(std::mem::take(&mut word));
        }
        match c {
            '{' => prefixes.push([&prefixes[prefixes.len() - 1][..], &path].concat()),
            ',' | '}' if !path.is_empty() => {
                // `x as y` uses x.
                let renamed = path.iter().position(|word| word == "as");
                path.truncate(renamed.unwrap_or(path.len()));
                let prefix = &prefixes[prefixes.len() - 1];
                leaves.push((at, [&prefix[..], &path].concat()));
            }
            _ => {}
        }
        if matches!(c, '{' | ',' | '}') {
            path.clear();
        }
        if c == '}' {
            prefixes.pop();
        }
    }
    leaves
}

/// Reads every path of two and more words into `paths`.
fn inline_paths(text: &str, paths: &mut Vec<Used>) {
    let mut segments: Vec<String> = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if is_in_word(c) {
            let goes_on = text[..at].ends_with("::") && !segments.is_empty();
            if text[..at].ends_with(is_in_word) {
                segments.last_mut().expect("a word has begun").push(c);
            } else {
                if !goes_on {
                    keep(&mut segments, text, start, paths);
                    start = at;
                }
                segments.push(c.to_string());
            }
        } else if c != ':' {
            keep(&mut segments, text, start, paths);
        }
    }
}

fn keep(segments: &mut Vec<String>, text: &str, start: usize, paths: &mut Vec<Used>) {
    let segments = std::mem::take(segments);
    // `pub(in crate::x)` is no use of x.
    let is_visibility = text[..start].ends_with("(in ");
    let follows_a_path = text[..start].ends_with("::");
    if segments.len() > 1 && !is_visibility && !follows_a_path {
        let line = line_of(text, start);
        paths.push(Used { line, segments });
    }
}
