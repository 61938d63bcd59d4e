//! The blocks of `docs/webhooks.md` and `examples/README.md` that set variables and start programs.

use harness::instance::{Instance, Settings};
use harness::process::Process;
use harness::redis_server::free_port;
use serde_json::{Value, json};

use super::super::libraries::installed;
use super::super::shell::{bash, printed};
use super::{path_of, shell_blocks};

const WEBHOOKS: &str = include_str!("../../../../docs/webhooks.md");
const EXAMPLES: &str = include_str!("../../../../examples/README.md");

/// Settings with the values that `variables` have where `commands` call `make`.
async fn settings_of(commands: &str, variables: &[&'static str]) -> Settings {
    let shown = variables.iter().map(|name| format!("echo \"${name}\"\n"));
    let make = format!("make() {{\n{}}}\n", shown.collect::<String>());
    let values = printed(bash(&format!("{make}{commands}"))).await;
    let pairs = variables.iter().zip(&values);
    pairs.fold(Settings::new(), |settings, (name, value)| {
        settings.with(name, value)
    })
}

#[tokio::test]
async fn the_receiver_of_the_documents_is_accepted() {
    let [block] = shell_blocks(WEBHOOKS)[..] else {
        panic!("one block sets the receiver");
    };
    let variables = ["PRESENCE_WEBHOOKS", "PRESENCE_WEBHOOK_SECRETS"];
    let settings = settings_of(&format!("{block}make\n"), &variables).await;
    let instance = Instance::start(&settings).await;
    assert!(instance.client().get("/readyz").await.status.is_success());
}

#[tokio::test]
async fn the_service_and_the_back_end_of_the_examples_start() {
    let [service, back_end] = shell_blocks(EXAMPLES)[..] else {
        panic!("one block starts the service, and one the back end");
    };
    let variables = [
        "PRESENCE_JWT_SECRET",
        "PRESENCE_API_KEYS",
        "PRESENCE_CORS_ORIGINS",
    ];
    let instance = Instance::start(&settings_of(service, &variables).await).await;
    let client = instance.client();
    let python = "python3() { exec \"$PYTHON\" \"$@\"; }\n";
    let back_end = back_end.replace("http://127.0.0.1:8080", client.base());
    let mut bash = bash(&format!("{python}{back_end}"));
    let port = free_port().to_string();
    bash.env("PYTHON", installed("clients-python/bin/python"))
        .env("APP_PORT", &port)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(path_of("."));
    let mut app = Process::spawn("app.py", &mut bash);
    let address = app.line().await.expect("the address of the page");
    let team = reqwest::get(format!("{address}/team")).await;
    let team: Value = team.expect("an answer").json().await.expect("JSON");
    assert_eq!(
        team,
        json!({"online": []}),
        "the key of the block is accepted"
    );
}
