//! The tour of the README, run in a shell, and as a script in `examples/`.

use std::fs;
use std::path::Path;

use harness::instance::{Instance, Settings, binary};
use harness::process::Process;
use harness::redis_server::RedisServer;
use serde_json::{Value, json};

use super::shell::{STREAM, answers, bash_in, in_a_script, printed};

const README: &str = include_str!("../../../README.md");

/// The headings of the README whose blocks the tests run.
const HEADINGS: [&str; 4] = [
    "## Three commands\n",
    "## Five minutes\n",
    "### With credentials\n",
    "## Running it\n",
];

/// The shell commands under a heading of the README, block by block.
fn blocks(heading: &str) -> Vec<&'static str> {
    let (_, part) = README.split_once(heading).expect("the heading");
    let part = part.split("\n#").next().expect("a part");
    let blocks = part.split("```sh\n").skip(1);
    let blocks = blocks.map(|block| block.split_once("```").expect("an end").0);
    blocks.collect()
}

#[test]
fn every_shell_block_of_the_readme_is_run() {
    let run: usize = HEADINGS.iter().map(|heading| blocks(heading).len()).sum();
    assert_eq!(run, README.matches("```sh\n").count());
}

#[tokio::test]
async fn the_first_commands_are_in_the_makefile() {
    let make = "make() { grep -q \"^$1: \" Makefile && echo \"$1\"; }\n";
    let commands = format!("{make}{}", blocks(HEADINGS[0]).concat());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = printed(bash_in(root, &commands)).await;
    assert_eq!(targets, ["run", "demo", "test"]);
}

#[tokio::test]
async fn the_command_for_redis_starts_an_instance_on_redis() {
    let redis = RedisServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let commands = blocks(HEADINGS[3]).concat();
    let commands = commands.replace("redis://127.0.0.1:6379", &redis.url());
    let commands = commands.replace("127.0.0.1:8081", "127.0.0.1:0");
    let cargo = "cargo() { exec \"$BINARY\"; }\n";
    let mut bash = bash_in(directory.path(), &format!("{cargo}{commands}"));
    let mut instance = Process::spawn("README", bash.env("BINARY", binary()));
    let greeting = instance.line().await.expect("the address");
    assert!(greeting.contains("(redis store)"), "{greeting}");
}

/// The answers to the calls in `commands`, sent to `instance`.
async fn answers_of(commands: &str, directory: &Path, instance: &Instance) -> Vec<Value> {
    let commands = commands.replace("http://127.0.0.1:8080", instance.client().base());
    answers(bash_in(directory, &commands)).await
}

#[tokio::test]
async fn the_tour_shows_who_is_online() {
    let directory = tempfile::tempdir().expect("a directory");
    let instance = Instance::start(&Settings::new()).await;
    let commands: String = blocks(HEADINGS[1]).into_iter().map(in_a_script).collect();
    let answers = answers_of(&commands, directory.path(), &instance).await;
    let online: Vec<_> = answers.iter().map(|answer| &answer["online"]).collect();
    let alice = [
        json!(true),
        json!(true),
        json!(true),
        json!(["alice"]),
        json!(false),
    ];
    let bob = [json!(true), json!(true), json!(true), json!(true)];
    assert_eq!(online, alice.iter().chain(&bob).collect::<Vec<_>>());
    let stream = fs::read_to_string(directory.path().join(STREAM)).expect("a stream");
    assert!(stream.contains("event: presence.snapshot"), "{stream}");
}

#[tokio::test]
async fn the_script_of_the_tour_makes_the_calls_of_the_readme() {
    const SCRIPT: &str = include_str!("../../../examples/tour.sh");
    let in_readme = blocks(HEADINGS[1]).concat();
    let calls = in_readme.lines().filter(|line| line.starts_with("curl"));
    for call in calls.filter(|call| !call.starts_with("curl -N")) {
        let shown = call.replacen("curl", "show curl -sS", 1);
        assert!(SCRIPT.contains(&format!("\n{shown}\n")), "{shown}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let instance = Instance::start(&Settings::new()).await;
    let url = format!("URL={}\n", instance.client().base());
    let lines = printed(bash_in(directory.path(), &format!("{url}{SCRIPT}"))).await;
    let user: Value = serde_json::from_str(&lines[8]).expect("the last lookup");
    assert_eq!(user["connections"][0]["connectionId"], "laptop", "{user}");
    let stream = lines[9..].join("\n");
    assert!(stream.contains("data: {\"online\":[\"bob\"]}"), "{stream}");
    assert!(stream.contains("event: presence.ready"), "{stream}");
}

#[tokio::test]
async fn the_key_and_the_token_of_the_tour_are_accepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let blocks = blocks(HEADINGS[2]);
    let (start, calls) = blocks
        .split_first()
        .expect("a block that starts the service");
    let make = "make() { printf '%s\\n' \"$PRESENCE_API_KEYS\" \"$PRESENCE_JWT_SECRET\"; }\n";
    let set = printed(bash_in(directory.path(), &format!("{make}{start}"))).await;
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", &set[0])
        .with("PRESENCE_JWT_SECRET", &set[1]);
    let instance = Instance::start(&settings).await;
    let answers = answers_of(&calls.concat(), directory.path(), &instance).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[0], json!({"count": 0}));
    assert_eq!(answers[1]["becameOnline"], true, "{}", answers[1]);
    assert_eq!(answers[2]["status"], 403, "{}", answers[2]);
}
