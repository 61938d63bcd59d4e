//! The pages in `docs/guides/`: every call is made, and every answer and every message of a stream is the one that the
//! page shows.

use std::fs;

use harness::deployment::{Deployment, Store, on_both_stores};
use harness::instance::Settings;
use harness::timestamp::Timestamp;
use serde_json::Value;

use super::super::shell::{STREAM, bash_in, in_a_script, printed};
use super::{blocks, path_of, shell_blocks};

const BEGIN: &str = include_str!("../../../../docs/guides/README.md");

/// A page as a script, and what it shows.
#[derive(Default)]
struct Job {
    script: String,
    answers: Vec<Value>,
    messages: Vec<(String, Value)>,
}

impl Job {
    /// Reads a page. Blocks of `sh` are commands, blocks of `json` the answers to the commands before, and blocks of
    /// `text` the next messages of the stream, which a command `curl -N` opens.
    fn of(page: &str) -> Self {
        let mut job = Self::default();
        for block in blocks(page) {
            match block.language {
                "sh" => job.script += &in_a_script(block.code),
                "json" => {
                    let shown = block.code.lines().map(serde_json::from_str);
                    job.answers.extend(shown.map(|line| line.expect("JSON")));
                }
                "text" => job.messages.extend(messages(block.code)),
                other => panic!("a block of {other}"),
            }
        }
        let messages = job.messages.len();
        if messages > 0 {
            let all = format!("until [ \"$(grep -c ^event: {STREAM})\" -ge {messages} ]");
            job.script += &format!("{all}; do sleep 0.02; done\n");
        }
        job
    }
}

/// The messages in the text of a stream: events and data.
fn messages(text: &str) -> Vec<(String, Value)> {
    let mut messages = Vec::new();
    let mut event = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("event: ") {
            event = name;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data = serde_json::from_str(data).expect("JSON");
            messages.push((event.to_owned(), data));
        }
    }
    messages
}

/// Whether `real` is what a page shows as `shown`. Times and cursors differ in each run. `…` stands for any text.
fn agrees(shown: &Value, real: &Value) -> bool {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let both = shown.iter().all(|(name, shown)| {
                let opaque = ["id", "cursor"].contains(&&**name);
                let same = |real: &Value| opaque && real.is_string() || agrees(shown, real);
                real.get(name).is_some_and(same)
            });
            both && shown.len() == real.len()
        }
        (Value::Array(shown), Value::Array(real)) => {
            let mut pairs = shown.iter().zip(real);
            shown.len() == real.len() && pairs.all(|(shown, real)| agrees(shown, real))
        }
        (Value::String(shown), Value::String(real)) => {
            let are_times = [shown, real].map(|text| Timestamp::parse(text).is_some());
            shown == real || shown == "…" || are_times == [true, true]
        }
        _ => shown == real,
    }
}

/// Runs a page against a service that is started as the guides say.
async fn run(store: Store, file: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let [start, variables] = shell_blocks(BEGIN)[..] else {
        panic!("the guides begin with two blocks");
    };
    let make = "make() { printf '%s\\n' \"$PRESENCE_API_KEYS\" \"$PRESENCE_JWT_SECRET\"; }\n";
    let set = printed(bash_in(directory.path(), &format!("{make}{start}"))).await;
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", &set[0])
        .with("PRESENCE_JWT_SECRET", &set[1]);
    let deployment = Deployment::with(store, settings).await;
    let variables = variables.replace("http://127.0.0.1:8080", deployment.client().base());

    let page = fs::read_to_string(path_of("docs/guides").join(file)).expect(file);
    let job = Job::of(&page);
    let script = format!("{variables}{}", job.script);
    let answers = printed(bash_in(directory.path(), &script)).await;
    for (place, (shown, real)) in job.answers.iter().zip(&answers).enumerate() {
        let real = serde_json::from_str(real).expect(real);
        assert!(agrees(shown, &real), "answer {place}\n{shown}\n{real}");
    }
    assert_eq!(answers.len(), job.answers.len(), "{answers:?}");
    if job.messages.is_empty() {
        return;
    }
    let stream = fs::read_to_string(directory.path().join(STREAM)).expect("a stream");
    let heard = messages(&stream);
    for (shown, real) in job.messages.iter().zip(&heard) {
        let is_shown = shown.0 == real.0 && agrees(&shown.1, &real.1);
        assert!(is_shown, "{}\n{}\n{stream}", shown.0, shown.1);
    }
    assert_eq!(heard.len(), job.messages.len(), "{stream}");
}

async fn friends_list(store: Store) {
    run(store, "friends-list.md").await;
}

async fn chat_rooms(store: Store) {
    run(store, "chat-rooms.md").await;
}

async fn document_viewers(store: Store) {
    run(store, "document-viewers.md").await;
}

async fn do_not_disturb(store: Store) {
    run(store, "do-not-disturb.md").await;
}

async fn mobile_background(store: Store) {
    run(store, "mobile-background.md").await;
}

async fn support_agents(store: Store) {
    run(store, "support-agents.md").await;
}

on_both_stores!(
    friends_list,
    chat_rooms,
    document_viewers,
    do_not_disturb,
    mobile_background,
    support_agents,
);

#[test]
fn every_page_of_the_guides_is_listed_and_run() {
    let test = include_str!("jobs.rs");
    let folder = fs::read_dir(path_of("docs/guides")).expect("a folder");
    for entry in folder.flatten() {
        let name = entry.file_name().into_string().expect("a name");
        if name != "README.md" {
            assert!(
                BEGIN.contains(&format!("]({name})")),
                "{name} is not listed"
            );
            assert!(test.contains(&format!("run(store, \"{name}\")")), "{name}");
        }
    }
}
