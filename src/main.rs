//! The `presence` program.

use std::process::ExitCode;

use clap::Parser;
use presence::config::Config;
use presence::{Server, ServerError, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the parser of flags exits with, too.
const BAD_SETTING: u8 = 2;

// For what is done once in a process; calls and streams are served by threads of their own.
#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if config.print_openapi {
        print!("{}", presence::http::openapi());
        return ExitCode::SUCCESS;
    }
    if config.healthcheck {
        return presence::healthcheck(config.listen_address()).await;
    }
    telemetry::start_logging();
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        // As the parser of flags does: whatever is logged, this is said.
        Err(ServerError::Setting(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(BAD_SETTING)
        }
        Err(error) => {
            error!(%error, "the service ended");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), ServerError> {
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let server = Server::new(config)?;
    let store = server.store_kind();
    let mut running = tokio::select! {
        running = server.listen() => running?,
        () = &mut stop => return Ok(()),
    };
    println!(
        "presence listening on http://{} ({store})",
        running.address()
    );
    tokio::select! {
        () = stop => {}
        error = running.failed() => return Err(error),
    }
    info!("draining");
    running.shutdown().await;
    info!("stopped");
    Ok(())
}

/// Resolves on SIGTERM or Ctrl-C, of which it hears from this call on.
fn asked_to_stop() -> impl Future<Output = ()> {
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    async move {
        let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
