//! Learns how much of the pace the servers and their clients bear: additive increase, multiplicative decrease.
//!
//! The signal is what clients feel: probes of our own, sent at fixed instants while slots move, against what the same probes
//! took while nothing moved. One step up for each that comes back in time and a tenth down for each that does not balance
//! where about one in a hundred is slow, which is what a 99th percentile asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::call::Rest;
use super::tokens::Tokens;
use super::{Allowance, Freight, MOST_ATOMIC_REST, Pace, Portion, hand_over, rest};
use crate::cluster::question::AtomicProtocol;
use crate::model::{Address, PaceReport};

/// Kept by a probe that was slow. A stall counts once for each probe that fell due meanwhile.
const DECREASE: f64 = 0.9;
/// Gained by a probe that was not: a hundredth of what a slow one costs a share in full.
const INCREASE: f64 = 0.001;
/// Below this, slots would stay open for longer than is good. A machine that is busy with other things makes probes late
/// whatever we do.
const LEAST_SHARE: f64 = 1.0 / 8.0;
/// The gentle pace begins where others end.
const LEAST_GENTLE_SHARE: f64 = 1.0 / 2.0;
/// How much a stall may count for: a hundred milliseconds of probes bring the share from all to the least.
const MOST_MISSED: u32 = 20;
/// Replication that is this far behind takes the share to its least: a fifth of the 256 MiB at which servers, by
/// default, throw a replica out and have it copy everything anew.
const MOST_LAG: u64 = 48 << 20;
/// Gained by each look that finds replicas keeping up, where probes do not count.
const LAG_INCREASE: f64 = 0.1;
/// The part of an execution's quiet probes that its tolerance is measured by.
const QUIET_QUANTILE: f64 = 0.99;

/// What a node tells of itself while slots move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::migration) struct Vitals {
    /// Keys evicted since its start.
    pub(in crate::migration) evicted: u64,
    /// Bytes by which its slowest replica in sync is behind.
    pub(in crate::migration) lag_bytes: u64,
    /// How long it stood still for its last fork; nothing if there was none.
    pub(in crate::migration) fork: Duration,
}

/// The controller. Pure: time is an argument.
#[derive(Debug)]
pub(in crate::migration) struct Throttle {
    pace: Pace,
    /// Longest time that one MIGRATE may keep its source.
    call: Duration,
    share: f64,
    /// Slower than this is slow.
    tolerated: Option<Duration>,
    tokens: Option<Tokens>,
    /// Evicted keys of each node at our first look.
    evicted: BTreeMap<Address, u64>,
    /// Nodes that evict since: nothing more may go there.
    evicting: BTreeMap<Address, u64>,
    /// How long each node's last fork took.
    forks: BTreeMap<Address, Duration>,
    report: PaceReport,
}

impl Throttle {
    pub(in crate::migration) fn new(pace: Pace, call: Duration, bytes_per_second: Option<u64>) -> Self {
        Self {
            pace,
            call,
            share: 1.0,
            tolerated: None,
            tokens: bytes_per_second.map(Tokens::new),
            evicted: BTreeMap::new(),
            evicting: BTreeMap::new(),
            forks: BTreeMap::new(),
            report: PaceReport { share: 1.0, least_share: 1.0, ..PaceReport::default() },
        }
    }

    /// Whether it wants to know what is usual before anything moves.
    pub(in crate::migration) fn wants_quiet(&self) -> bool {
        self.pace.tolerance().is_some()
    }

    /// Learns what is usual.
    pub(in crate::migration) fn hear_quiet(&mut self, mut probes: Vec<Duration>) {
        let Some((factor, slack)) = self.pace.tolerance() else { return };
        probes.sort_unstable();
        let place = (probes.len() as f64 * QUIET_QUANTILE) as usize;
        // Nobody answered: the slack alone.
        let usual = probes.get(place.min(probes.len().saturating_sub(1))).copied().unwrap_or_default();
        let tolerated = usual.mul_f64(factor).max(usual + slack);
        self.tolerated = Some(tolerated);
        self.report.tolerated_ms = Some(tolerated.as_secs_f64() * 1e3);
    }

    /// Learns from a probe that took `took`, where one is due `every` so often.
    pub(in crate::migration) fn hear_probe(&mut self, took: Duration, every: Duration) {
        let Some(tolerated) = self.tolerated else { return };
        self.report.probes += 1;
        if took <= tolerated {
            self.set_share(self.share + INCREASE);
        } else {
            let missed = (took.as_secs_f64() / every.as_secs_f64()) as u32;
            self.report.slow_probes += 1;
            self.ease("latency");
            self.set_share(self.share * DECREASE.powi(missed.clamp(1, MOST_MISSED).cast_signed()));
        }
    }

    /// Learns from what an end of a running migration says of itself.
    pub(in crate::migration) fn hear_vitals(&mut self, node: &Address, vitals: Vitals) {
        self.forks.insert(node.clone(), vitals.fork);
        let before = *self.evicted.entry(node.clone()).or_insert(vitals.evicted);
        // Fewer than before: it was restarted.
        if vitals.evicted > before {
            self.evicting.insert(node.clone(), vitals.evicted - before);
        }
        if vitals.lag_bytes > MOST_LAG {
            self.ease("replica-lag");
            self.set_share(self.least_share());
        } else if self.tolerated.is_none() {
            // Where no probe brings the share back, replicas that kept up do.
            self.set_share(self.share + LAG_INCREASE);
        }
    }

    /// Why nothing more may go to `target`, if so.
    pub(in crate::migration) fn objection_to(&self, target: &Address) -> Option<String> {
        let keys = self.evicting.get(target)?;
        Some(format!(
            "the target evicted {keys} keys since slots began to move: it has no room; raise its maxmemory, or move less"
        ))
    }

    /// What a machine may take now.
    pub(in crate::migration) fn allowance(&self) -> Allowance {
        Allowance {
            // Shorter rounds are felt less, and cost more of the way; a quarter is as short as pays.
            round: self.pace.round().mul_f64(self.share.max(0.25)),
            call: self.call,
            duty: self.pace.duty() * self.share,
        }
    }

    /// How long to leave a source to its clients that stood still to fork and to hand this over, within `took`. `share` is what
    /// it was before: the stall itself has made probes late, and is not to be paid for twice.
    pub(in crate::migration) fn rest_after_portion(
        &self,
        source: &Address,
        form: AtomicProtocol,
        freight: Freight,
        (took, share): (Duration, f64),
    ) -> Duration {
        let stall = (self.fork(Some(source)) + hand_over(form, freight)).min(took);
        rest(stall, self.pace.atomic_duty() * share).min(MOST_ATOMIC_REST)
    }

    /// What an atomic migration may take from this source. Whatever the share: smaller ones would fork more often.
    pub(in crate::migration) fn portion(&self, source: Option<&Address>) -> Portion {
        let mut portion = self.pace.portion();
        if let Some(tokens) = &self.tokens {
            // A second's worth: what is overdrawn at once is waited for afterwards.
            portion.bytes = portion.bytes.min(tokens.earned_in(Duration::from_secs(1)));
        }
        portion.beside(self.fork(source))
    }

    /// Takes `bytes` that were moved until `now`, and says how long to wait before more are.
    pub(in crate::migration) fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let wait = self.tokens.as_mut().map_or(Duration::ZERO, |tokens| tokens.take(bytes, now));
        if !wait.is_zero() {
            self.ease("bandwidth");
        }
        wait
    }

    fn fork(&self, node: Option<&Address>) -> Duration {
        node.and_then(|node| self.forks.get(node)).copied().unwrap_or_default()
    }

    /// What it decided so far.
    pub(in crate::migration) fn report(&self) -> &PaceReport {
        &self.report
    }

    pub(in crate::migration) fn hear_round(&mut self, took: Duration) {
        self.report.rounds.add(took);
    }

    pub(in crate::migration) fn hear_rest(&mut self, rest: Rest) {
        self.report.rests.entry(rest.cause.as_str().to_owned()).or_default().add(rest.duration);
    }

    fn set_share(&mut self, share: f64) {
        self.share = share.clamp(self.least_share(), 1.0);
        self.report.share = self.share;
        self.report.least_share = self.report.least_share.min(self.share);
    }

    fn least_share(&self) -> f64 {
        if self.pace == Pace::Gentle { LEAST_GENTLE_SHARE } else { LEAST_SHARE }
    }

    fn ease(&mut self, reason: &'static str) {
        *self.report.eased.entry(reason.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(5);
    const QUICK: Duration = Duration::from_micros(150);

    fn throttle(pace: Pace) -> Throttle {
        let mut throttle = Throttle::new(pace, Duration::from_millis(5), None);
        throttle.hear_quiet(vec![Duration::from_micros(200); 200]);
        throttle
    }

    /// The share after many probes, of which one in `one_in` is slow.
    fn settles_at(one_in: u32) -> f64 {
        let mut throttle = throttle(Pace::Default);
        let mut sum = 0.0;
        for probe in 0..100_000 {
            let slow = probe % one_in == 0;
            throttle.hear_probe(if slow { Duration::from_millis(3) } else { QUICK }, EVERY);
            sum += throttle.share / 100_000.0;
        }
        sum
    }

    #[test]
    fn one_slow_probe_in_a_hundred_is_borne_and_more_are_not() {
        assert!(settles_at(400) > 0.9, "{}", settles_at(400));
        assert!(settles_at(150) > 0.85, "{}", settles_at(150));
        assert!(settles_at(20) < 0.35, "{}", settles_at(20));
        assert!(settles_at(5) < 0.15, "{}", settles_at(5));
    }

    #[test]
    fn a_long_stall_counts_for_everybody_who_waited() {
        let (mut short, mut long) = (throttle(Pace::Default), throttle(Pace::Default));
        short.hear_probe(Duration::from_millis(4), EVERY);
        long.hear_probe(Duration::from_millis(100), EVERY);
        assert!(short.share > 0.85 && long.share < 0.2, "{} {}", short.share, long.share);
        long.hear_probe(Duration::from_secs(3600), EVERY);
        assert!(long.share >= LEAST_SHARE);
        assert_eq!(long.report().eased["latency"], 2);
    }

    #[test]
    fn a_smaller_share_means_shorter_rounds_and_longer_rests() {
        let mut throttle = throttle(Pace::Default);
        let source = Address::new("a", 1);
        let rest_after_portion = |throttle: &Throttle| {
            let (form, took) = (AtomicProtocol::ValkeyMigrateSlots, Duration::from_secs(1));
            throttle.rest_after_portion(&source, form, Freight::default(), (took, throttle.share))
        };
        let before = (throttle.allowance(), rest_after_portion(&throttle));
        for _ in 0..10 {
            throttle.hear_probe(Duration::from_millis(4), EVERY);
        }
        let after = (throttle.allowance(), rest_after_portion(&throttle));
        assert!(after.0.round < before.0.round && after.1 > before.1 * 2);
        let busy = Duration::from_millis(1);
        let rest = |allowance: Allowance| allowance.rest_after(busy, Duration::ZERO);
        assert!(rest(after.0) > rest(before.0) * 3);
    }

    #[test]
    fn a_source_that_forks_slowly_is_asked_seldom_and_for_more() {
        let mut throttle = throttle(Pace::Default);
        let source = Address::new("a", 1);
        let form = AtomicProtocol::ValkeyMigrateSlots;
        let small = throttle.portion(Some(&source));
        let took = (Duration::from_secs(1), 1.0);
        let rest = throttle.rest_after_portion(&source, form, Freight::default(), took);
        throttle.hear_vitals(&source, Vitals { fork: Duration::from_millis(150), ..Vitals::default() });
        let large = throttle.portion(Some(&source));
        assert!(large.hand_over > small.hand_over * 5 && large.bytes > small.bytes * 5.0, "{large:?}");
        assert!(throttle.rest_after_portion(&source, form, Freight::default(), took) > rest * 10);
        let refused = throttle.rest_after_portion(&source, form, Freight::default(), (Duration::ZERO, 1.0));
        assert_eq!(refused, Duration::ZERO, "it never forked");
        assert_eq!(throttle.portion(Some(&Address::new("b", 1))), small, "every node has its own");
    }

    #[test]
    fn a_limit_of_bytes_bounds_portions_at_any_pace_and_beside_any_fork() {
        let source = Address::new("a", 1);
        for pace in [Pace::Gentle, Pace::Default, Pace::Fast] {
            let mut throttle = Throttle::new(pace, Duration::from_millis(5), Some(1000));
            assert!(throttle.portion(Some(&source)).bytes <= 1000.0, "{pace:?}");
            throttle.hear_vitals(&source, Vitals { fork: Duration::from_secs(5), ..Vitals::default() });
            assert!(throttle.portion(Some(&source)).bytes <= 8000.0, "{pace:?}");
        }
    }

    #[test]
    fn fast_asks_nobody() {
        let mut throttle = throttle(Pace::Fast);
        assert!(!throttle.wants_quiet());
        throttle.hear_probe(Duration::from_secs(1), EVERY);
        assert_eq!(
            (throttle.share, throttle.allowance().rest_after(Duration::from_secs(1), Duration::ZERO)),
            (1.0, Duration::ZERO)
        );
    }

    #[test]
    fn a_target_that_evicts_gets_nothing_more() {
        let mut throttle = throttle(Pace::Fast);
        let node = Address::new("a", 1);
        throttle.hear_vitals(&node, Vitals { evicted: 1000, ..Vitals::default() });
        assert_eq!(throttle.objection_to(&node), None, "it did so before");
        throttle.hear_vitals(&node, Vitals { evicted: 1003, ..Vitals::default() });
        assert!(throttle.objection_to(&node).is_some_and(|why| why.contains("evicted 3 keys")));
        assert_eq!(throttle.objection_to(&Address::new("b", 1)), None);
    }

    #[test]
    fn replication_that_falls_behind_is_waited_for_at_any_pace() {
        let mut throttle = throttle(Pace::Fast);
        throttle.hear_vitals(&Address::new("a", 1), Vitals { lag_bytes: MOST_LAG + 1, ..Vitals::default() });
        assert_eq!((throttle.share, throttle.report().eased["replica-lag"]), (LEAST_SHARE, 1));
    }
}
