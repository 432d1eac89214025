//! The policies that the program carries, built from `policies/` and committed as `policies/prebuilt/*.wasm`.

/// Every embedded policy by name, the default one first.
const POLICIES: &[(&str, &[u8])] = &[
    ("balance", include_bytes!("../../policies/prebuilt/balance.wasm")),
    ("slots", include_bytes!("../../policies/prebuilt/slots.wasm")),
];

/// The bytes of the policy called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static [u8]> {
    POLICIES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

/// The names of all embedded policies, the default one first.
#[must_use]
pub fn embedded_names() -> Vec<&'static str> {
    POLICIES.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check::{Grade, Wishes, check};
    use crate::policy::{Settings, Source, testing};

    #[test]
    fn every_embedded_policy_passes_the_check_that_ballast_gives_to_others() {
        // Other tests share the machine: what counts here is what they answer, not how soon.
        let patient = testing::host_with(Settings { deadline_ms: 60_000, ..Settings::default() });
        for name in embedded_names() {
            let report = check(&patient, &Source::Embedded(name.to_owned()), &Wishes::default()).expect("it loads");
            let ill: Vec<_> = report.findings.iter().filter(|finding| finding.grade > Grade::Pass).collect();
            assert!(ill.is_empty(), "{report}");
            assert_eq!(report.policy.name, name);
        }
    }

    #[test]
    fn a_policy_that_is_not_embedded_is_refused_with_those_that_are() {
        let failure = testing::host().load(&Source::Embedded("magic".into()), "{}").expect_err("there is none");
        assert!(failure.to_string().ends_with("there is no such policy; embedded policies are: balance, slots"));
    }
}
