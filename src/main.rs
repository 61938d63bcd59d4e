//! The `presence` program.

use std::env;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use presence::config::{Config, check_variables};
use presence::telemetry::Log;
use presence::{Server, ServerError};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, info, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the parser of flags exits with, too.
const BAD_SETTING: u8 = 2;

/// What a process exits with that a signal ended is this and the signal's number.
const BY_SIGNAL: u8 = 128;

/// How long the standard output may take to accept the first line.
const GREETING_PATIENCE: Duration = Duration::from_secs(3);

/// How long the end waits for the rest of the log to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = Config::parse();
    if config.print_openapi {
        return match write_to_stdout(&presence::http::openapi()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&ServerError::Output(error).to_string()),
        };
    }
    // For what is done once in a process; calls and streams are served by threads of their own.
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the first threads: {error}")),
    };
    if config.healthcheck {
        return runtime.block_on(presence::healthcheck(config.listen.address()));
    }
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => return failed(&format!("cannot start the thread of the log: {error}")),
    };
    // The cause of a panic is logged where it happens.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(config))));
    let code = match ended {
        Ok(Ok(code)) => code,
        // As the parser of flags does: whatever is logged, this is said.
        Ok(Err(ServerError::Setting(error))) => {
            log.say(&format!("error: {error}"));
            ExitCode::from(BAD_SETTING)
        }
        Ok(Err(error)) => {
            error!(%error, "the service ended");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    };
    log.finish(LOG_PATIENCE);
    // Without waiting for a thread that may be stuck.
    runtime.shutdown_background();
    code
}

/// Says why nothing could be started.
fn failed(why: &str) -> ExitCode {
    // Where that cannot be said, the exit code says it.
    let _ = writeln!(io::stderr(), "error: {why}");
    ExitCode::FAILURE
}

async fn run(config: Config) -> Result<ExitCode, ServerError> {
    let mut signals = Signals::listen();
    check_variables(env::vars_os().map(|(name, _)| name))?;
    warn_of_an_ignored_port(&config);
    let server = Server::new(config)?;
    let store = server.store_kind();
    let mut running = tokio::select! {
        running = server.listen() => running?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let greeting = format!(
        "presence listening on http://{} ({store})\n",
        running.address()
    );
    greet(greeting).await.map_err(ServerError::Output)?;
    tokio::select! {
        _ = signals.next() => {}
        error = running.failed() => return Err(error),
    }
    info!("draining");
    tokio::select! {
        () = running.shutdown() => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        kind = signals.next() => {
            warn!("a second signal came; ending at once");
            let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
            Ok(ExitCode::from(BY_SIGNAL + number))
        }
    }
}

/// `PRESENCE_PORT` is what Kubernetes says about a Service, such as `tcp://10.0.0.1:80`. A number there was meant for us.
fn warn_of_an_ignored_port(config: &Config) {
    let port = env::var("PRESENCE_PORT").unwrap_or_default();
    if port.parse::<u16>().is_ok() {
        let address = config.listen.address();
        warn!(%address, "PRESENCE_PORT is no setting and is ignored; set PORT or PRESENCE_LISTEN");
    }
}

/// Says that the service runs. Fails where the standard output does not take that in time.
async fn greet(greeting: String) -> io::Result<()> {
    let written = spawn_blocking(move || write_to_stdout(&greeting));
    match timeout(GREETING_PATIENCE, written).await {
        Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => Err(io::Error::other("it is full, and nobody reads from it")),
    }
}

fn write_to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// SIGTERM and Ctrl-C. None that comes after [`Signals::listen`] is missed.
struct Signals(io::Result<[(SignalKind, Signal); 2]>);

impl Signals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).map(|signal| (kind, signal));
        let terminate = listen(SignalKind::terminate());
        let both = terminate.and_then(|first| Ok([first, listen(SignalKind::interrupt())?]));
        if let Err(error) = &both {
            warn!(%error, "SIGTERM and Ctrl-C cannot be heard, and end the service without a drain");
        }
        Self(both)
    }

    /// Resolves with the next of them.
    async fn next(&mut self) -> SignalKind {
        let Ok([(terminated, terminate), (interrupted, interrupt)]) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => *terminated,
            _ = interrupt.recv() => *interrupted,
        }
    }
}
