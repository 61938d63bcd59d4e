//! Standard streams that are full or closed: the log delays no call, and a start that cannot be reported fails.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write, pipe};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use harness::client::Client;
use harness::instance::Settings;
use harness::serial::run_beside_others;
use harness::wait::{eventually, eventually_true};
use reqwest::Method;
use tokio::time::Instant;

/// Far longer than the end takes, and far shorter than a wait for the log would be.
const SOON: Duration = Duration::from_secs(10);

/// A child process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        run_beside_others();
        Self(command.spawn().expect("a process"))
    }

    fn send(&self, signal: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "{signal}");
    }

    async fn exit(&mut self) -> ExitStatus {
        eventually("an end", async || self.0.try_wait().expect("a child")).await
    }

    /// A client of the address in the first line of the output.
    fn client(&mut self) -> Client {
        let mut greeting = String::new();
        let stdout = self.0.stdout.as_mut().expect("a pipe");
        let read = BufReader::new(stdout).read_line(&mut greeting);
        read.expect("a greeting");
        let mut words = greeting.split_whitespace();
        let base = words.find(|word| word.starts_with("http://"));
        Client::new(base.unwrap_or_else(|| panic!("no address in {greeting:?}")))
    }
}

/// An instance that logs every request into a pipe that is not read, and the other end of the pipe.
fn unread() -> (Running, PipeReader) {
    let (reader, writer) = pipe().expect("a pipe");
    let settings = Settings::new()
        .with("RUST_LOG", "debug")
        .with("PRESENCE_DRAIN", "2s");
    let mut command = settings.command(&[]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(writer);
    (Running::spawn(&mut command), reader)
}

/// Logs more than the pipe and the queue hold.
async fn log_much(client: &Client) {
    let path = format!("/{}", "x".repeat(7_000));
    for _ in 0..300 {
        assert_eq!(client.get(&path).await.status, 404);
    }
}

async fn lines_dropped(client: &Client) -> u64 {
    let dropped = client.metric("presence_log_lines_dropped_total").await;
    dropped.expect("the metric")
}

#[tokio::test]
async fn an_unread_log_drops_lines_and_delays_no_call() {
    let (mut instance, reader) = unread();
    let client = instance.client();
    assert_eq!(lines_dropped(&client).await, 0);
    log_much(&client).await;
    assert_eq!(client.get("/livez").await.status, 200);
    assert!(client.connect("alice").await.became_online);
    assert!(lines_dropped(&client).await > 0);

    let log = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        lines.collect::<Vec<_>>()
    });
    eventually_true("nothing is dropped any more", async || {
        log_is_drained(&client).await
    })
    .await;
    instance.send("-TERM");
    assert_eq!(instance.exit().await.code(), Some(0));
    let log = log.join().expect("lines");
    let told = log
        .iter()
        .any(|line| line.contains("log lines were dropped") && line.contains("\"lines\":"));
    assert!(told, "how many: {} lines", log.len());
    assert!(log.iter().any(|line| line.contains("stopped")), "the end");
}

/// Whether calls are logged without a loss.
async fn log_is_drained(client: &Client) -> bool {
    let before = lines_dropped(client).await;
    for _ in 0..20 {
        client.get("/livez").await;
    }
    lines_dropped(client).await == before
}

#[tokio::test]
async fn a_signal_ends_an_instance_with_an_unread_log() {
    let (mut instance, _reader) = unread();
    let client = instance.client();
    log_much(&client).await;
    let began = Instant::now();
    instance.send("-TERM");
    assert_eq!(instance.exit().await.code(), Some(0));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_instance_goes_on_after_its_log_is_closed() {
    let (mut instance, reader) = unread();
    let client = instance.client();
    drop(reader);
    assert!(client.connect("alice").await.became_online);
    eventually_true("the loss is counted", async || {
        client.get("/livez").await;
        lines_dropped(&client).await > 0
    })
    .await;
    instance.send("-TERM");
    assert_eq!(instance.exit().await.code(), Some(0));
}

/// Starts with `stdout` as the standard output, and returns the exit code and the log.
async fn start_with(stdout: impl Into<Stdio>, arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = pipe().expect("a pipe");
    let mut command = Settings::new().command(arguments);
    command.env("RUST_BACKTRACE", "full");
    command.stdin(Stdio::null()).stdout(stdout).stderr(writer);
    let mut instance = Running::spawn(&mut command);
    drop(command);
    let status = instance.exit().await;
    assert_eq!(status.signal(), None);
    let log = std::io::read_to_string(reader).expect("text");
    (status.code(), log)
}

/// The write end of a full pipe.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    let filler = writer.try_clone().expect("another end");
    // A thread fills the pipe, because the last write blocks.
    std::thread::spawn(move || {
        let mut filler = filler;
        while filler.write_all(&[b'x'; 4_096]).is_ok() {}
    });
    std::thread::sleep(Duration::from_millis(200));
    writer.flush().expect("nothing to do");
    (reader, writer)
}

#[tokio::test]
async fn a_full_standard_output_ends_the_start_with_an_error() {
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("a device")
    };
    let gone = || pipe().expect("a pipe").1;
    let (_reader, stuck) = full_pipe();
    for (what, (code, log)) in [
        ("full", start_with(full(), &[]).await),
        ("gone", start_with(gone(), &[]).await),
        ("stuck", start_with(stuck, &[]).await),
        ("full", start_with(full(), &["--print-openapi"]).await),
        ("gone", start_with(gone(), &["--print-openapi"]).await),
    ] {
        assert_eq!(code, Some(1), "{what}: {log}");
        assert!(
            log.contains("cannot write to the standard output"),
            "{what}: {log}"
        );
        for word in ["panicked", "backtrace", "src/"] {
            assert!(!log.contains(word), "{what}: {log}");
        }
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut command = Settings::new().with("PRESENCE_DRAIN", "60s").command(&[]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut instance = Running::spawn(&mut command);
        let client = instance.client();
        let _streams = [
            harness::sse::Stream::open(&client, "").await,
            harness::sse::Stream::open(&client, "").await,
            harness::sse::Stream::open(&client, "").await,
        ];
        instance.send("-TERM");
        eventually_true("the log is read", async || {
            client.request(Method::GET, "/livez").send().await.is_err()
        })
        .await;
        let began = Instant::now();
        instance.send(signal);
        assert_eq!(instance.exit().await.code(), Some(code));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}
