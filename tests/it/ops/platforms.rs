//! The files of the platforms in `infra/`: a script checks them against the schemas of Kubernetes and against each
//! other, and the service starts with the environment of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::instance::Settings;
use harness::process::Process;
use harness::redis_server::RedisServer;

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/ops/platforms/check.py"
);

const INFRA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/infra");

/// The variables of each file. A value from a secret or another resource is `None`.
type Environments = BTreeMap<String, BTreeMap<String, Option<String>>>;

/// The Python of the virtual environment that `tests/install` made.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let installed = target.map(|target| target.join("tools/platforms-python/bin/python"));
    installed
        .filter(|python| python.exists())
        .unwrap_or_else(|| "python3".into())
}

fn checked() -> Environments {
    let mut command = Command::new(python());
    let output = command.args([SCRIPT, INFRA]).output().expect("Python");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The value of `variable` on this machine.
fn local(variable: &str, value: Option<String>, redis: &RedisServer) -> String {
    match (variable, value) {
        ("REDIS_URL", None) => redis.url(),
        ("PRESENCE_API_KEYS", None) => "backend:presence.read:a-key-of-a-back-end".to_owned(),
        ("AWS_LAMBDA_RUNTIME_API", None) => "127.0.0.1:1".to_owned(),
        ("PORT", Some(_)) => "0".to_owned(),
        (_, Some(value)) => value
            .replace("0.0.0.0:8080", "0.0.0.0:0")
            .replace(":9090", ":0"),
        (_, None) => panic!("{variable} has no value on this machine"),
    }
}

#[tokio::test]
async fn the_service_starts_with_the_environment_of_each_platform() {
    let redis = RedisServer::start().await;
    let environments = checked();
    assert_eq!(environments.len(), 6, "{environments:?}");
    for (file, variables) in environments {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.clone(), local(&name, value, &redis)));
        let mut command = Settings::new().without("PRESENCE_LISTEN").command(&[]);
        let mut process = Process::spawn(&file, command.envs(variables));
        let greeting = process.line().await;
        let greeting = greeting.unwrap_or_else(|| panic!("{file}:\n{}", process.log()));
        assert!(greeting.contains("redis"), "{file}: {greeting}");
    }
}
