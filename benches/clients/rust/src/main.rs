//! An open-loop load over redis-rs: `ballast-bench-clients cluster|cluster-async --seeds host:port,… --rate N [--seconds S]`.
//!
//! The contract that all load programs of `benches/clients` share is in `benches/clients/README.md`.

mod asynchronous;
mod blocking;
mod contract;
mod keys;

use contract::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let which = words.next().unwrap_or_default();
    let options = Options::read(words)?;
    match which.as_str() {
        "cluster-async" => asynchronous::run(&options),
        "cluster" => blocking::run(&options),
        _ => Err("name cluster or cluster-async first".into()),
    }
}
