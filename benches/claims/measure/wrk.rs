//! wrk, an HTTP load generator.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::process::Process;

use super::micros_each;

/// The connections, and the length of a round.
const CONNECTIONS: usize = 64;
const ROUND: Duration = Duration::from_secs(4);

/// The script that sends the requests in a file of [`requests`].
pub(crate) const REQUESTS: &str = "benches/claims/requests.lua";

/// The script that posts the JSON of a file.
pub(crate) const LOOKUP: &str = "benches/claims/lookup.lua";

/// The result of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) requests: u64,
    pub(crate) p99: Duration,
    /// Processor time of the server for each request, in microseconds.
    pub(crate) cpu_micros: f64,
}

/// Runs `script` against `server` for one round.
pub(crate) fn round(server: &Process, url: &str, script: &str, argument: &Path) -> Round {
    let before = server.cpu();
    let mut command = Command::new("wrk");
    command.args(["-t2", &format!("-c{CONNECTIONS}")]);
    command.args([&format!("-d{}", ROUND.as_secs()), "--latency"]);
    command.args(["-s", script, url, "--"]).arg(argument);
    let output = command.output().expect("benches/install installs wrk");
    let spent = server.cpu() - before;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !shown.contains("Non-2xx"),
        "not all was answered with 200:\n{shown}"
    );
    let word_after = |label: &str| {
        let line = shown
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.and_then(|rest| rest.split_whitespace().next())
    };
    let requests = shown.lines().find(|line| line.contains("requests in"));
    let requests = requests.and_then(|line| line.split_whitespace().next());
    let requests: Option<u64> = requests.and_then(|count| count.parse().ok());
    let per_second = word_after("Requests/sec:").and_then(|rate| rate.parse().ok());
    let (Some(requests), Some(per_second)) = (requests, per_second) else {
        panic!("wrk said {shown}");
    };
    Round {
        per_second,
        requests,
        p99: duration(word_after("99%").unwrap_or("")),
        cpu_micros: micros_each(spent, requests),
    }
}

/// Writes a file of requests for `requests.lua`.
pub(crate) fn requests(file: &Path, lines: impl Iterator<Item = String>) {
    let text: String = lines.map(|line| line + "\n").collect();
    fs::write(file, text).expect("a file");
}

fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => panic!("{text} is no duration of wrk's"),
    };
    Duration::from_secs_f64(digits.parse::<f64>().expect("a number") * unit)
}
