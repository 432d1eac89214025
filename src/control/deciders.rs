//! Who decides: the configured policy, or the one that stands in for it after too many faults. Pure.

use crate::policy::{LoadedPolicy, OnFailure};

/// The configured policy and those that may take its place. Generic over what a policy is, for tests.
#[derive(Debug)]
pub(super) struct Deciders<P = LoadedPolicy> {
    /// The configured one; absent while none could be loaded, or while it is being asked.
    current: Option<P>,
    /// The one that decided before it.
    previous: Option<P>,
    /// The one that decides in its place.
    stand_in: Option<P>,
    /// Whether somebody stands in, until something new is loaded.
    stands_in: bool,
}

/// Who has to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// The policy before, which is at hand.
    Previous,
    /// The embedded `balance`, which is to be loaded.
    Balance,
}

impl<P> Default for Deciders<P> {
    fn default() -> Self {
        Self { current: None, previous: None, stand_in: None, stands_in: false }
    }
}

impl<P> Deciders<P> {
    /// A new policy decides from now on. The one before is kept when it may have to come back.
    pub(super) fn replace(&mut self, policy: P, on_failure: OnFailure) {
        let before = self.current.replace(policy);
        if on_failure == OnFailure::Previous {
            // A stand-in proved itself; what it stood in for did not.
            self.previous = self.stand_in.take().or(before).or(self.previous.take());
        } else {
            self.previous = None;
        }
        self.stand_in = None;
        self.stands_in = false;
    }

    /// The configured policy, when it is not away.
    pub(super) fn current(&self) -> Option<&P> {
        self.current.as_ref()
    }

    /// The policy that decides in its place, when it is not away.
    pub(super) fn stand_in(&self) -> Option<&P> {
        self.stand_in.as_ref()
    }

    /// Who decides now, to be asked elsewhere and [put back](Self::put_back).
    pub(super) fn take(&mut self) -> Option<P> {
        self.seat().take()
    }

    /// Takes back who was asked.
    pub(super) fn put_back(&mut self, policy: P) {
        *self.seat() = Some(policy);
    }

    fn seat(&mut self) -> &mut Option<P> {
        if self.stands_in { &mut self.stand_in } else { &mut self.current }
    }

    /// After so many faults in a row of the configured policy, who has to take over; nobody when that is not wanted, or
    /// when somebody has already.
    pub(super) fn successor(&self, faults_in_a_row: u32, on_failure: OnFailure, limit: u32) -> Option<Successor> {
        if faults_in_a_row < limit || self.stands_in {
            return None;
        }
        match on_failure {
            OnFailure::Hold => None,
            OnFailure::Previous => self.previous.as_ref().map(|_| Successor::Previous),
            OnFailure::Balance => Some(Successor::Balance),
        }
    }

    /// The policy before takes over; nothing happens when there is none.
    pub(super) fn recall(&mut self) {
        if let Some(previous) = self.previous.take() {
            self.relieve_by(previous);
        }
    }

    /// `policy` takes over.
    pub(super) fn relieve_by(&mut self, policy: P) {
        self.stand_in = Some(policy);
        self.stands_in = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_hold_unless_something_else_is_wanted() {
        let deciders = deciders(&["a", "b"], OnFailure::Hold);
        assert_eq!(deciders.successor(99, OnFailure::Hold, 3), None);
    }

    #[test]
    fn the_policy_before_comes_back_after_three_faults_and_goes_when_a_new_one_is_loaded() {
        let mut deciders = deciders(&["a", "b"], OnFailure::Previous);
        assert_eq!(deciders.successor(2, OnFailure::Previous, 3), None);
        assert_eq!(deciders.successor(3, OnFailure::Previous, 3), Some(Successor::Previous));
        deciders.recall();
        assert_eq!(asked(&mut deciders), Some("a"));
        assert_eq!(deciders.successor(3, OnFailure::Previous, 3), None, "once");
        deciders.replace("c", OnFailure::Previous);
        assert_eq!(asked(&mut deciders), Some("c"));
        deciders.recall();
        assert_eq!(asked(&mut deciders), Some("a"), "and not the one that failed");
    }

    #[test]
    fn the_first_policy_has_none_before_it() {
        let deciders = deciders(&["a"], OnFailure::Previous);
        assert_eq!(deciders.successor(3, OnFailure::Previous, 3), None);
        assert_eq!(deciders.successor(3, OnFailure::Balance, 3), Some(Successor::Balance));
    }

    /// Loads these, one after the other.
    fn deciders(names: &[&'static str], on_failure: OnFailure) -> Deciders<&'static str> {
        let mut deciders = Deciders::default();
        for name in names {
            deciders.replace(*name, on_failure);
        }
        deciders
    }

    /// Who is asked; put back afterwards.
    fn asked(deciders: &mut Deciders<&'static str>) -> Option<&'static str> {
        let policy = deciders.take()?;
        deciders.put_back(policy);
        Some(policy)
    }
}
