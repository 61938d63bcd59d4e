//! A demo: the service on the embedded store, and some hundred simulated users that come, go, fall silent, and move
//! between documents.
//!
//! `make demo` runs it and prints the address of the dashboard. Ctrl-C ends it. The settings of the service apply, as
//! flags and as environment variables; the time to live is short, so that something happens.

mod client;
mod user;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use presence::Server;
use presence::config::Config;
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;

use client::Client;
use user::User;

/// The number of simulated users.
const USERS: usize = 300;

/// What differs from the default settings of the service.
const SETTINGS: [&str; 4] = ["--ttl", "10s", "--ping-interval", "4s"];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args();
    let name = arguments.next().unwrap_or_default();
    let settings = SETTINGS.map(str::to_owned);
    let config = Config::parse_from([name].into_iter().chain(settings).chain(arguments));
    let mut service = Server::new(config)?.listen().await?;
    let client = Client::new(service.address());
    let mut users = JoinSet::new();
    for number in 0..USERS {
        users.spawn(User::new(number, client.clone()).live());
    }
    println!(
        "{USERS} users live at http://{}/dashboard",
        service.address()
    );
    println!("The readers of a document are a group: doc-1, doc-2, … Ctrl-C ends the demo.");
    tokio::select! {
        pressed = ctrl_c() => Ok(pressed?),
        failed = service.failed() => Err(failed.into()),
        Some(ended) = users.join_next() => Err(match ended {
            Ok(failed) => failed,
            Err(panicked) => panicked.into(),
        }),
    }
}
