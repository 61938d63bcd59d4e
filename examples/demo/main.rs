//! A demo: the service on the embedded store, and some hundred simulated users that come, go, fall silent, and move
//! between documents.
//!
//! `make demo` runs it and prints the address of the dashboard. Ctrl-C ends it. The settings of the service apply, as
//! flags and as environment variables; the time to live is short, so that something happens.

mod client;
mod user;

use std::env;
use std::process::ExitCode;

use axum::http::Method;
use clap::Parser;
use presence::Server;
use presence::config::Config;
use serde_json::json;
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;

use client::{Client, Failure};
use user::{User, id};

/// The number of simulated users.
const USERS: usize = 300;

/// The number of users in a team. Each user is in one team.
const TEAM: usize = 25;

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

async fn run() -> Result<(), Failure> {
    let mut arguments = env::args();
    let name = arguments.next().unwrap_or_default();
    let settings = SETTINGS.map(str::to_owned);
    let config = Config::parse_from([name].into_iter().chain(settings).chain(arguments));
    let mut service = Server::new(config)?.listen().await?;
    let client = Client::new(service.address());
    store_teams(&client).await?;
    let mut users = JoinSet::new();
    for number in 0..USERS {
        users.spawn(User::new(number, client.clone()).live());
    }
    println!(
        "{USERS} users live at http://{}/dashboard",
        service.address()
    );
    println!(
        "Groups: the readers of a document are doc-1, doc-2, …; the teams are team-1, team-2, …"
    );
    println!("Ctrl-C ends the demo.");
    tokio::select! {
        pressed = ctrl_c() => Ok(pressed?),
        failed = service.failed() => Err(failed.into()),
        Some(ended) = users.join_next() => Err(match ended {
            Ok(failed) => failed,
            Err(panicked) => panicked.into(),
        }),
    }
}

/// Stores the members of each team, as a back end does.
async fn store_teams(client: &Client) -> Result<(), Failure> {
    for (team, first) in (1..).zip((0..USERS).step_by(TEAM)) {
        let members: Vec<String> = (first..first + TEAM).map(id).collect();
        let path = format!("/v1/groups/team-{team}");
        let body = json!({"members": members});
        client.call(Method::PUT, &path, &body).await?;
    }
    Ok(())
}
