//! Shell commands of the documents, run in bash.

use std::process::Command;

use harness::process::Process;
use serde_json::Value;

/// A bash that ends at the first command that fails.
pub(super) fn bash(commands: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-c", commands]);
    bash
}

/// Runs `bash` and returns its output, line by line.
pub(super) async fn printed(mut bash: Command) -> Vec<String> {
    let mut bash = Process::spawn("bash", &mut bash);
    let mut lines = Vec::new();
    while let Some(line) = bash.line().await {
        lines.push(line);
    }
    let status = bash.exit().await;
    assert!(status.success(), "{status}: {}", bash.log());
    lines
}

/// Runs `bash` and returns the answers in its output, one in each line.
pub(super) async fn answers(bash: Command) -> Vec<Value> {
    let lines = printed(bash).await;
    let answers = lines.iter().map(|line| serde_json::from_str(line));
    answers
        .collect::<Result<_, _>>()
        .expect("JSON on each line")
}
