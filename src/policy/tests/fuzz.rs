//! Mutated answers: whatever comes, the host says what is wrong and lives on. (Mutated files: `tests/it/policy.rs`.)
//!
//! Seeded, so that what fails repeats: `make fuzz FUZZ=100000 SEED=7` looks longer than the tests do.

use super::*;
use crate::guard::{self, Ledger, Limits};

/// A small generator; see Marsaglia, *Xorshift RNGs*, 2003.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }
}

/// How many rounds, and the seed.
fn effort(rounds: u64) -> (u64, Lot) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("BALLAST_TEST_SEED").unwrap_or(1);
    (number("BALLAST_TEST_FUZZ").unwrap_or(rounds), Lot(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1))
}

#[test]
fn mutated_answers_break_the_interface_or_are_reviewed_as_any_others() {
    let snapshot = snapshot(3);
    let (rounds, mut lot) = effort(150);
    let mut reviewed = 0;
    for round in 0..rounds {
        // Random words where the answer stands, and random moves where it may point to.
        let word = |lot: &mut Lot| match lot.below(4) {
            0 => lot.below(20_000),
            1 => 65_536 + lot.below(4096) * 4,
            2 => usize::try_from(lot.next() & 0xffff_ffff).unwrap_or(0),
            _ => lot.below(8),
        };
        let mut plan = "(drop (memory.grow (i32.const 4)))".to_owned();
        for place in (65_536..65_536 + 512).step_by(4) {
            plan.push_str(&format!("(i32.store (i32.const {place}) (i32.const {}))", word(&mut lot)));
        }
        for place in [516, 520, 524, 528, 532, 536] {
            if lot.below(3) == 0 {
                plan.push_str(&format!("(i32.store (i32.const {place}) (i32.const {}))", word(&mut lot)));
            }
        }
        if lot.below(8) == 0 {
            plan.push_str(&format!("(i32.store8 (i32.const 512) (i32.const {}))", lot.below(256)));
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
