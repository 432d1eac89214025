//! A shadow that was let to decide, in the configured policy's place. Pure.

use serde::{Deserialize, Serialize};

use crate::config::{Policy, Shadow};
use crate::policy::Source;

/// Who decides instead. Kept in the state directory, so that a restart does not undo it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promotion {
    /// As the configuration calls it.
    pub(super) shadow: String,
    source: Source,
    parameters: String,
    /// The policy that was configured then. Whoever configures another one means that.
    instead_of: (Source, String),
}

impl Promotion {
    pub(super) fn of(shadow: &Shadow, configured: &Policy) -> Self {
        Self {
            shadow: shadow.name.clone(),
            source: shadow.source.clone(),
            parameters: shadow.parameters.clone(),
            instead_of: (configured.source.clone(), configured.parameters.clone()),
        }
    }

    /// Where the policy that decides comes from, and its parameters.
    pub(super) fn decides(promotion: Option<&Self>, configured: &Policy) -> (Source, String) {
        match promotion {
            Some(promotion) => (promotion.source.clone(), promotion.parameters.clone()),
            None => (configured.source.clone(), configured.parameters.clone()),
        }
    }

    /// Whether it still stands beside what is configured.
    pub(super) fn holds(&self, configured: &Policy) -> bool {
        (&self.instead_of.0, &self.instead_of.1) == (&configured.source, &configured.parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(name: &str, parameters: &str) -> Policy {
        let settings = crate::policy::Settings::default();
        Policy { source: Source::Embedded(name.to_owned()), parameters: parameters.to_owned(), settings }
    }

    #[test]
    fn it_stands_until_another_policy_or_other_parameters_are_configured() {
        let shadow =
            Shadow { name: "next".to_owned(), source: Source::File("/next.wasm".into()), parameters: "{}".to_owned() };
        let promotion = Promotion::of(&shadow, &configured("balance", "{}"));
        assert!(promotion.holds(&configured("balance", "{}")));
        assert!(!promotion.holds(&configured("slots", "{}")));
        assert!(!promotion.holds(&configured("balance", r#"{"trigger":1.3}"#)));
        let kept = serde_json::to_string(&promotion).expect("plain");
        assert_eq!(serde_json::from_str::<Promotion>(&kept).expect("the same"), promotion);
    }
}
