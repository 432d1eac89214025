//! Stories against real servers. `scripts/servers all` fetches them; `make test` does so first.

mod access;
mod cli;
mod collector;
mod compat;
mod daemon;
mod data;
mod demo;
mod docs;
mod doctor;
mod drain;
mod faults;
mod fix;
mod history;
mod imports;
mod load;
mod metrics;
mod migration;
mod policy;
mod prebuilt;
mod scene;
mod servers;
mod simulate;
mod soak;
mod support;
mod verify;
