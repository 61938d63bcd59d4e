//! The measured claims: each runs both sides on this machine in one go and prints what it found as
//! lines of one table. `make bench` runs all; `cargo bench -- ping idle` runs those named.
//!
//! Everything shares the processors with everything, the clients included, so ratios within one run
//! count and not the figures themselves.

mod cold;
mod crossing;
mod fan_out;
mod growth;
mod hostile;
mod idle;
mod lateness;
mod lookup;
mod measure;
mod ping;
mod routing;
mod start;
mod storm;

use std::pin::Pin;

use measure::report::{HEAD, Row};

type Running = Pin<Box<dyn Future<Output = Vec<Row>>>>;

/// A name to choose it by, and how to run it.
type Claim = (&'static str, fn() -> Running);

const CLAIMS: [Claim; 13] = [
    ("ping", || Box::pin(ping::run())),
    ("token", || Box::pin(ping::token())),
    ("lookup", || Box::pin(lookup::run())),
    ("start", || Box::pin(start::run())),
    ("idle", || Box::pin(idle::run())),
    ("fan-out", || Box::pin(fan_out::run())),
    ("routing", || Box::pin(routing::run())),
    ("crossing", || Box::pin(crossing::run())),
    ("storm", || Box::pin(storm::run())),
    ("cold", || Box::pin(cold::run())),
    ("hostile", || Box::pin(hostile::run())),
    ("growth", || Box::pin(growth::run())),
    ("lateness", || Box::pin(lateness::run())),
];

#[tokio::main]
async fn main() {
    // Cargo adds a flag of its own.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let named: Vec<&String> = named.iter().filter(|name| !name.starts_with('-')).collect();
    println!("{HEAD}");
    for (name, run) in CLAIMS {
        if named.is_empty() || named.iter().any(|wanted| *wanted == name) {
            for row in run().await {
                println!("{}", row.shown());
            }
        }
    }
}
