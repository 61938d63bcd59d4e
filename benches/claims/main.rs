//! The measured claims. Each claim runs both sides on this machine and prints lines of one table. `make bench` runs all
//! claims; `cargo bench -- ping idle` runs the named ones.
//!
//! All processes share the processors, including the clients. Ratios within one run are meaningful, absolute figures
//! are not. The benchmark fails if a target is missed.

mod city;
mod cluster;
mod cold;
mod crossing;
mod devices;
mod fan_out;
mod groups;
mod growth;
mod hostile;
mod idle;
mod lateness;
mod lookup;
mod measure;
mod partitions;
mod ping;
mod routing;
mod start;
mod storm;
mod webhooks;

use std::pin::Pin;
use std::process::ExitCode;

use measure::machine::Machine;
use measure::report::{HEAD, Row};

type Running = Pin<Box<dyn Future<Output = Vec<Row>>>>;

/// The name of a claim, and the function that measures it.
type Claim = (&'static str, fn() -> Running);

const CLAIMS: [Claim; 19] = [
    ("ping", || Box::pin(ping::run())),
    ("token", || Box::pin(ping::token())),
    ("devices", || Box::pin(devices::run())),
    ("lookup", || Box::pin(lookup::run())),
    ("start", || Box::pin(start::run())),
    ("idle", || Box::pin(idle::run())),
    ("fan-out", || Box::pin(fan_out::run())),
    ("routing", || Box::pin(routing::run())),
    ("crossing", || Box::pin(crossing::run())),
    ("storm", || Box::pin(storm::run())),
    ("cold", || Box::pin(cold::run())),
    ("hostile", || Box::pin(hostile::run())),
    ("webhooks", || Box::pin(webhooks::run())),
    ("growth", || Box::pin(growth::run())),
    ("partitions", || Box::pin(partitions::run())),
    ("groups", || Box::pin(groups::run())),
    ("city", || Box::pin(city::run())),
    ("cluster", || Box::pin(cluster::run())),
    ("lateness", || Box::pin(lateness::run())),
];

#[tokio::main]
async fn main() -> ExitCode {
    // Cargo adds its own flag.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&String> = named.iter().filter(|name| !name.starts_with('-')).collect();
    println!("{HEAD}");
    let mut machine = Machine::default();
    machine.measure();
    let mut missed = 0;
    for (name, run) in CLAIMS {
        if named.is_empty() || named.iter().any(|wanted| *wanted == name) {
            for row in run().await {
                println!("{}", row.shown());
                missed += usize::from(row.is_missed());
            }
            machine.measure();
        }
    }
    println!("{}", machine.row().shown());
    if missed > 0 {
        eprintln!("Targets missed: {missed}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
