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

/// The allocator of the whole process, C code included: the allocator of glibc reserves 64 MiB of address space for
/// each thread, which does not fit where the address space is limited (`ulimit -v`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for an invalid setting, as the parser of flags uses it.
const EXIT_INVALID_SETTING: u8 = 2;

/// The exit code after a signal is this number plus the number of the signal.
const EXIT_SIGNAL_BASE: u8 = 128;

/// The time limit for writing the line that reports the address to the standard output.
const FIRST_LINE_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest time that the exit waits for the log to be written.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = Config::parse();
    if config.print_openapi {
        return match write_to_stdout(&presence::openapi()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&ServerError::Output(error).to_string()),
        };
    }
    // This runtime runs the background tasks. Workers serve calls and streams on threads of their own.
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("cannot start the runtime: {error}")),
    };
    if config.healthcheck {
        return runtime.block_on(presence::healthcheck(config.listen.address()));
    }
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => return failed(&format!("cannot start the log thread: {error}")),
    };
    // The panic hook of the log has logged the cause of a panic.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run(config))));
    let code = match ended {
        Ok(Ok(code)) => code,
        // RUST_LOG does not suppress this line, as it does not suppress the errors of the parser of flags.
        Ok(Err(ServerError::Setting(error))) => {
            log.print(&format!("error: {error}"));
            ExitCode::from(EXIT_INVALID_SETTING)
        }
        Ok(Err(error)) => {
            error!(%error, "the service failed");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    };
    log.finish(LOG_FLUSH_TIMEOUT);
    // A blocking thread may be stuck, so the exit does not wait for it.
    runtime.shutdown_background();
    code
}

/// Prints why the service cannot start.
fn failed(why: &str) -> ExitCode {
    // If the standard error stream is closed, the exit code remains.
    let _ = writeln!(io::stderr(), "error: {why}");
    ExitCode::FAILURE
}

async fn run(config: Config) -> Result<ExitCode, ServerError> {
    let mut signals = Signals::listen();
    check_variables(env::vars_os().map(|(name, _)| name))?;
    warn_of_ignored_port(&config);
    let is_on_lambda = config.lambda.is_enabled();
    let server = Server::new(config)?;
    let store = server.store_kind();
    if is_on_lambda {
        return serve_lambda(server, signals).await;
    }
    let mut running = tokio::select! {
        running = server.listen() => running?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    let line = format!(
        "presence listening on http://{} ({store})\n",
        running.address()
    );
    print_line(line).await.map_err(ServerError::Output)?;
    tokio::select! {
        _ = signals.next() => {}
        error = running.failed() => return Err(error),
    }
    info!("drain started");
    tokio::select! {
        () = running.shutdown() => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        kind = signals.next() => {
            warn!("second signal received; the service ends at once");
            let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
            Ok(ExitCode::from(EXIT_SIGNAL_BASE + number))
        }
    }
}

/// Answers the invocations of an AWS Lambda function until a signal.
async fn serve_lambda(server: Server, mut signals: Signals) -> Result<ExitCode, ServerError> {
    let line = format!("presence serving AWS Lambda ({})\n", server.store_kind());
    print_line(line).await.map_err(ServerError::Output)?;
    tokio::select! {
        error = server.serve_lambda() => Err(error),
        _ = signals.next() => Ok(ExitCode::SUCCESS),
    }
}

/// Kubernetes sets `PRESENCE_PORT` for a Service, for example to `tcp://10.0.0.1:80`. An operator who sets a number
/// probably means `PORT`.
fn warn_of_ignored_port(config: &Config) {
    let port = env::var("PRESENCE_PORT").unwrap_or_default();
    if port.parse::<u16>().is_ok() {
        let address = config.listen.address();
        warn!(%address, "PRESENCE_PORT is not a setting and is ignored; set PORT or PRESENCE_LISTEN");
    }
}

/// Prints that the service accepts connections. Fails if the standard output does not accept the line in time.
async fn print_line(line: String) -> io::Result<()> {
    let written = spawn_blocking(move || write_to_stdout(&line));
    match timeout(FIRST_LINE_TIMEOUT, written).await {
        Ok(written) => written.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => Err(io::Error::other("the pipe is full and has no reader")),
    }
}

fn write_to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// SIGTERM and SIGINT. Every signal after [`Signals::listen`] is received.
struct Signals(io::Result<[(SignalKind, Signal); 2]>);

impl Signals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).map(|signal| (kind, signal));
        let terminate = listen(SignalKind::terminate());
        let both = terminate.and_then(|first| Ok([first, listen(SignalKind::interrupt())?]));
        if let Err(error) = &both {
            warn!(%error, "cannot handle SIGTERM and SIGINT; they end the service without a drain");
        }
        Self(both)
    }

    /// Waits for the next signal.
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
