//! The programs in `docs/phones.md`.

use harness::deployment::{Deployment, Store};
use harness::process::{Process, Signal};
use harness::sse::Stream;
use serde_json::json;

use super::super::shell::answers;
use super::{PHONES, bash_with, program_in_python, settings, shell_blocks, token};

#[tokio::test]
async fn the_calls_of_a_phone_get_the_answers_that_the_guide_describes() {
    let deployment = Deployment::with(Store::Embedded, settings()).await;
    let token = token("alice", &json!(["bob", "carol"]));
    let client = deployment.client();
    let variables = [("URL", client.base()), ("TOKEN", &*token)];
    let commands = shell_blocks(PHONES).concat();
    let answers = answers(bash_with(&commands, &variables)).await;
    assert_eq!(answers.len(), 8, "{answers:?}");
    assert_eq!(answers[0]["becameOnline"], true, "{}", answers[0]);
    assert_eq!(answers[1]["becameOnline"], false, "{}", answers[1]);
    assert_eq!(answers[2]["becameOffline"], true, "{}", answers[2]);
    let closed = "urn:presence:problem:connection-closed";
    assert_eq!(answers[3]["type"], closed, "{}", answers[3]);
    assert_eq!(answers[4]["becameOnline"], true, "{}", answers[4]);
    assert_eq!(answers[5]["becameOffline"], true, "{}", answers[5]);
    assert_eq!(answers[6]["userId"], "bob", "{}", answers[6]);
    assert_eq!(answers[7], json!({"online": []}));
}

/// The phone of `alice`, with its connection id in `folder`.
fn phone(url: &str, folder: &std::path::Path) -> Process {
    let mut command = program_in_python("examples/phone/phone.py", url);
    command.env("PRESENCE_USER", "alice");
    command.env("PRESENCE_TOKEN", token("alice", &json!([])));
    Process::spawn("phone", command.current_dir(folder))
}

#[tokio::test]
async fn a_phone_stays_online_sleeps_returns_and_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings()
        .with("PRESENCE_TTL", "2s")
        .with("PRESENCE_PING_INTERVAL", "500ms");
    let mut deployment = Deployment::of(1, settings).await;
    let url = deployment.client().base().to_owned();
    let open = async |deployment: &Deployment| {
        let request = Stream::request(&deployment.client(), "");
        Stream::send(request.bearer_auth(super::KEY)).await
    };
    let mut stream = open(&deployment).await;
    let mut phone = phone(&url, folder.path());
    assert_eq!(stream.next().await.brief(), "online alice");
    let id = std::fs::read_to_string(folder.path().join("connection-id"));
    assert!(id.is_ok_and(|id| id.len() == 36));

    // The phone sleeps for longer than the TTL.
    phone.send(Signal::Stop);
    let event = stream.next().await;
    assert_eq!(event.brief(), "offline alice");
    assert_eq!(event.json()["reason"], "expired");
    phone.send(Signal::Continue);
    assert_eq!(stream.next().await.brief(), "online alice");

    // The service restarts, and the phone does not notice it.
    deployment.instances[0].kill();
    deployment.replace(0).await;
    let mut stream = open(&deployment).await;
    phone.send(Signal::Interrupt);
    let event = stream.next().await;
    assert_eq!(event.brief(), "offline alice");
    assert_eq!(event.json()["reason"], "disconnected");
    assert!(phone.exit().await.success());
}
