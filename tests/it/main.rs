//! Stories against real servers. `scripts/servers all` fetches them; `make test` does so first.

mod cli;
mod collector;
mod daemon;
mod demo;
mod faults;
mod imports;
mod load;
mod metrics;
mod migration;
mod policy;
mod prebuilt;
mod servers;
mod support;
