//! Mutated answers: whatever comes, the host says what is wrong and lives on. (Mutated files: `tests/it/policy.rs`.)
//!
//! Seeded, so that what fails repeats: `make fuzz FUZZ=100000 SEED=7` looks longer than the tests do.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::guard::{self, Ledger, Limits};

/// How many rounds, and what chance is decided by.
fn effort(rounds: u64) -> (u64, StdRng) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("BALLAST_TEST_SEED").unwrap_or(1);
    (number("BALLAST_TEST_FUZZ").unwrap_or(rounds), StdRng::seed_from_u64(seed))
}

#[test]
fn mutated_answers_break_the_interface_or_are_reviewed_as_any_others() {
    let snapshot = snapshot(3);
    let (rounds, mut lot) = effort(150);
    let mut reviewed = 0;
    for round in 0..rounds {
        // Random words where the answer stands, and random moves where it may point to.
        let word = |lot: &mut StdRng| match lot.random_range(0..4) {
            0 => lot.random_range(0..20_000),
            1 => 65_536 + lot.random_range(0..4096) * 4,
            2 => lot.random_range(0..1_usize << 32),
            _ => lot.random_range(0..8),
        };
        let mut plan = "(drop (memory.grow (i32.const 4)))".to_owned();
        for place in (65_536..65_536 + 512).step_by(4) {
            plan.push_str(&format!("(i32.store (i32.const {place}) (i32.const {}))", word(&mut lot)));
        }
        for place in [516, 520, 524, 528, 532, 536] {
            if lot.random_range(0..3) == 0 {
                plan.push_str(&format!("(i32.store (i32.const {place}) (i32.const {}))", word(&mut lot)));
            }
        }
        if lot.random_range(0..8) == 0 {
            plan.push_str(&format!("(i32.store8 (i32.const 512) (i32.const {}))", lot.random_range(0..256)));
        }
        let Ok(plan) = plan_of(&Fixture::planning(&plan)) else { continue };
        reviewed += 1;
        assert!(plan.moves.len() <= 16_384 && plan.gauges.len() <= 16, "round {round}");
        assert!(plan.gauges.iter().all(|(_, value)| value.is_finite()), "round {round}: {:?}", plan.gauges);
        let verdict = guard::review(&plan, &snapshot, &Limits::default(), &Ledger::default(), snapshot.taken_at_ms);
        for step in verdict.approved.moves() {
            let owner = snapshot.owners.as_slice()[usize::from(step.slot.number())];
            assert_eq!(snapshot.primaries[owner as usize].id, step.from, "round {round}: {step:?}");
            assert!(snapshot.index_of(&step.to).is_some_and(|target| target != owner), "round {round}: {step:?}");
        }
    }
    assert!(reviewed > 0, "answers that all break the interface try nothing");
}
