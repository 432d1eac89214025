//! Nothing is lost, whatever dies: faults at chosen and at seeded instants of migrations on real servers.
//!
//! Every story has the same acts. A cluster with replicas serves a checking load; the engine moves slots; a `tripwire`
//! halts it at one of its calls, and there the fault strikes; what was hurt comes back; Ballast recovers as it does at a
//! start; and then no slot is open, all nodes agree, every acknowledged write is there, and each key is on one primary.
//!
//! `make test` plays a sample; `make test-faults` plays as many as `BALLAST_TEST_FAULTS` says.

mod dying;
mod others;
mod person;
mod servers;
mod stage;
mod strike;
mod toll;
mod tripwire;
