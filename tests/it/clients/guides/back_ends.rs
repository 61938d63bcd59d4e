//! The programs in `docs/back-ends.md`.

use std::path::Path;
use std::process::Command;

use harness::client::{Client, send};
use harness::deployment::{Deployment, Store};
use harness::instance::{Instance, Settings};
use harness::process::Process;

use super::super::shell::{answers, bash, printed};
use super::{
    BACK_ENDS, bash_with, give_access, path_of, program_in_python, python, settings, shell_blocks,
};

#[tokio::test]
async fn the_keys_of_the_guide_allow_what_it_says() {
    let blocks = shell_blocks(BACK_ENDS);
    // A function in the place of the program prints its arguments instead of serving.
    let service = "presence() {
        printf '%s\\n' \"$PRESENCE_API_KEYS\" \"$PRESENCE_JWT_SECRET\" \"$KEY\" \"$BOARD_KEY\"
    }\n";
    let given = printed(bash(&format!("{service}{}", blocks[0]))).await;
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", &given[0])
        .with("PRESENCE_JWT_SECRET", &given[1]);
    let instance = Instance::start(&settings).await;
    let client = instance.client();
    let variables = [
        ("URL", client.base()),
        ("KEY", &*given[2]),
        ("BOARD_KEY", &*given[3]),
    ];
    let answers = answers(bash_with(&blocks[1..].concat(), &variables)).await;
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[0]["count"], 0);
    assert_eq!(answers[1]["status"], 403, "{}", answers[1]);
    assert_eq!(answers[2]["becameOnline"], true, "{}", answers[2]);
}

async fn connect(client: &Client, user: &str) {
    let request = client.of_user(user, "connect").bearer_auth(super::KEY);
    assert_eq!(send(request).await.status, 200);
}

/// `examples/back-end/follow.py`, with its cursor in `folder`.
fn follower(url: &str, folder: &Path) -> Process {
    let mut command = program_in_python("examples/back-end/follow.py", url);
    Process::spawn("follow.py", command.current_dir(folder))
}

async fn assert_prints(process: &mut Process, expected: &[&str]) {
    for line in expected {
        assert_eq!(process.line().await.as_deref(), Some(*line));
    }
}

#[tokio::test]
async fn a_follower_in_python_loses_nothing_when_it_or_the_service_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut deployment = Deployment::of(1, settings()).await;
    let url = deployment.client().base().to_owned();
    let mut first = follower(&url, folder.path());
    assert_prints(&mut first, &["caught up"]).await;
    connect(&deployment.client(), "alice").await;
    assert_prints(&mut first, &["alice is online"]).await;

    deployment.instances[0].kill();
    deployment.replace(0).await;
    connect(&deployment.client(), "bob").await;
    assert_prints(&mut first, &["bob is online", "caught up"]).await;

    first.kill();
    let client = deployment.client();
    let gone = client.of_user("bob", "disconnect").bearer_auth(super::KEY);
    assert_eq!(send(gone).await.status, 200);
    let mut second = follower(&url, folder.path());
    assert_prints(&mut second, &["bob is offline: disconnected", "caught up"]).await;
}

#[tokio::test]
async fn the_python_functions_make_the_calls_of_their_names() {
    let deployment = Deployment::with(Store::Embedded, settings()).await;
    let client = deployment.client();
    for user in ["alice", "b/o+b é"] {
        connect(&client, user).await;
    }
    let program = "
import json, sys, presence
users = ['nobody', 'b/o+b é', 'alice']
many = [f'user-{number}' for number in range(1500)] + ['alice']
token = presence.mint_token('carol', watch=['alice'])
headers = {'Authorization': f'Bearer {token}'}
for path in ['/v1/users/carol/connect', '/v1/users/alice/connect']:
    print(json.dumps(presence.client.post(path, headers=headers).status_code))
for path in ['/v1/users/alice', '/v1/users/dave']:
    print(json.dumps(presence.client.get(path, headers=headers).status_code))
print(json.dumps(presence.online_among(users)))
print(json.dumps(presence.online_among(many)))
print(json.dumps(sorted(presence.all_online())))
print(json.dumps(presence.count()))
print(json.dumps(presence.user('b/o+b é')['online']))
print(json.dumps(presence.sign_out('b/o+b é')['becameOffline']))
";
    let mut command = python(client.base());
    command
        .args(["-c", program])
        .current_dir(path_of("examples/back-end"));
    let mut process = Process::spawn("python", &mut command);
    let expected = [
        "200",
        "403",
        "200",
        "403",
        r#"["b/o+b \u00e9", "alice"]"#,
        r#"["alice"]"#,
        r#"["alice", "b/o+b \u00e9", "carol"]"#,
        "3",
        "true",
        "true",
    ];
    assert_prints(&mut process, &expected).await;
    assert!(process.exit().await.success());
}

#[tokio::test]
async fn a_follower_in_node_shows_users_and_survives_a_restart() {
    let mut deployment = Deployment::of(1, settings()).await;
    let client = deployment.client();
    connect(&client, "bob").await;
    let mut command = Command::new("node");
    command.arg(path_of("examples/back-end/follow.mjs"));
    give_access(&mut command, client.base());
    let mut process = Process::spawn("follow.mjs", &mut command);
    let token = process.line().await.expect("a token");
    let token = token.strip_prefix("token ").expect("a token").to_owned();
    assert_prints(&mut process, &["of alice and bob bob", "online bob"]).await;
    assert_prints(&mut process, &["presence.snapshot ", "presence.ready "]).await;
    let request = client.of_user("alice", "connect").bearer_auth(&token);
    assert_eq!(send(request).await.status, 200);
    assert_prints(&mut process, &["user.online alice"]).await;
    deployment.instances[0].kill();
    deployment.replace(0).await;
    connect(&deployment.client(), "carol").await;
    assert_prints(&mut process, &["user.online carol", "presence.ready "]).await;
}
