//! The documents agree with the program, with the tests, and with each other.

use std::collections::BTreeSet;
use std::path::Path;

use harness::instance::{Instance, Settings};

/// The folders with documents.
const FOLDERS: [&str; 7] = [
    "",
    "benches",
    "clients/typescript",
    "docs",
    "docs/guides",
    "examples",
    "infra",
];

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of these folders, by its path in the repository, with its content.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut documents = Vec::new();
    for folder in FOLDERS {
        let folder = root().join(folder);
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let content = std::fs::read_to_string(&path).expect("a document");
                let path = path.strip_prefix(root()).expect("a path below the root");
                documents.push((path.display().to_string(), content));
            }
        }
    }
    documents
}

/// The content without code blocks.
fn prose(content: &str) -> String {
    content.split("```").step_by(2).collect()
}

/// The targets of the links to files and sections.
fn links(content: &str) -> Vec<String> {
    let prose = prose(content);
    let targets = prose.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let targets = targets.filter(|target| !target.starts_with("http"));
    targets.map(str::to_owned).collect()
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().to_lowercase();
    let kept = letters.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    });
    kept.collect()
}

fn has_section(content: &str, section: &str) -> bool {
    let prose = prose(content);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| anchor(heading.trim_start_matches('#')))
        .any(|anchor| anchor == section)
}

#[test]
fn every_link_of_a_document_has_a_target() {
    let documents = documents();
    assert!(documents.len() > 10, "{documents:?}");
    for (path, content) in &documents {
        for link in links(content) {
            let (file, section) = link.split_once('#').unwrap_or((&*link, ""));
            let path = root().join(path);
            let folder = path.parent().expect("a folder");
            let target = match file {
                "" => path.clone(),
                file => folder.join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !section.is_empty() {
                let target = std::fs::read_to_string(target).expect("a document");
                assert!(has_section(&target, section), "{}: {link}", path.display());
            }
        }
    }
}

/// The cells of a row in a table.
fn cells(row: &str) -> Option<Vec<&str>> {
    let row = row.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split(" | ").map(str::trim).collect())
}

#[tokio::test]
async fn the_table_of_settings_has_every_variable_of_the_help_and_its_default() {
    const SETTINGS: &str = include_str!("../../../docs/settings.md");
    let ended = Instance::run_to_its_end(&Settings::new(), &["--help"]).await;
    let (mut documented, mut expected) = (BTreeSet::new(), BTreeSet::new());
    for row in SETTINGS.lines().filter_map(cells) {
        let name = row[0].trim_matches('`');
        let is_setting = ["PRESENCE_", "AWS_LAMBDA_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if is_setting || name == "PORT" || name.starts_with("REDIS_URL") {
            let default = row[1].trim_matches('`');
            documented.insert((name.to_owned(), default.to_owned()));
        }
    }
    for option in ended.output.split("\n      --").skip(1) {
        let value_of = |label: &str| {
            let (_, rest) = option.split_once(label)?;
            let (value, _) = rest.split_once(']')?;
            Some(value.trim_end_matches('=').to_owned())
        };
        let Some(name) = value_of("[env: ") else {
            continue;
        };
        // The help shows the value in the environment after the name.
        let name = name.split('=').next().expect("a name").to_owned();
        let default = value_of("[default: ").unwrap_or_else(|| "none".to_owned());
        expected.insert((name, default));
    }
    assert!(!expected.is_empty(), "{}", ended.output);
    assert_eq!(documented, expected);
}

/// The modules that a cell of the table of promises begins with, such as `auth::jwks` or `contract`.
fn named_modules(cell: &str) -> Vec<&str> {
    let names = cell.split(": ").next().unwrap_or(cell).split('`');
    let names = names.skip(1).step_by(2);
    names.filter(|name| !name.contains(' ')).collect()
}

#[test]
fn every_promise_names_a_module_of_the_tests() {
    const PROMISES: &str = include_str!("../../../docs/promises.md");
    let folders =
        ["tests/it", "src"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let rows = PROMISES.lines().filter_map(cells).skip(2);
    let rows: Vec<Vec<&str>> = rows.collect();
    assert!(rows.len() > 30, "{} promises", rows.len());
    for row in rows {
        let modules = named_modules(row[1]);
        assert!(!modules.is_empty(), "no test for: {}", row[0]);
        for module in modules {
            let file = module.replace("::", "/") + ".rs";
            let exists = folders.iter().any(|folder| folder.join(&file).is_file());
            assert!(exists, "no module {module} for: {}", row[0]);
        }
    }
}
