//! Shell commands of the documents, run in bash.

use std::path::Path;
use std::process::Command;

use harness::process::Process;
use serde_json::Value;

/// A bash that ends at the first command that fails.
pub(super) fn bash(commands: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-c", commands]);
    bash
}

/// A bash that runs `commands` in `directory`.
pub(super) fn bash_in(directory: &Path, commands: &str) -> Command {
    let mut bash = bash(commands);
    bash.current_dir(directory);
    bash
}

/// The file to which a block that watches a stream writes, see [`in_a_script`].
pub(super) const STREAM: &str = "stream";

/// A block of a document as a part of a script. A block that begins with `curl -N` watches a stream: it runs until the
/// script ends, and the script goes on when the stream has caught up.
pub(super) fn in_a_script(block: &str) -> String {
    if !block.starts_with("curl -N") {
        return block.to_owned();
    }
    let ready = format!("until grep -qs presence.ready {STREAM}; do sleep 0.02; done");
    format!("(exec {block}) > {STREAM} &\ntrap \"kill $!\" EXIT\n{ready}\n")
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
