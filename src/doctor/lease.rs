//! Where daemons agree on who leads: whether it answers, and who leads now.

use super::line::{Fix, Line, Topic};
use crate::config::Config;
use crate::lease;
use crate::telemetry::chain;

/// Nothing where no lease is configured.
pub(super) async fn found(config: &Config) -> Option<Line> {
    let settings = config.lease.as_ref()?;
    Some(match lease::leader(settings, &config.cluster.name).await {
        Ok(Some(leader)) => Line::ok(Topic::Lease, format!("etcd answers, and {leader} leads")),
        Ok(None) => Line::ok(Topic::Lease, "etcd answers, and nobody leads yet"),
        Err(error) => Line::fail(
            Topic::Lease,
            chain(&error),
            Fix::of("mend [lease] etcd, user or certificates: a daemon that cannot ask who leads does nothing"),
        ),
    })
}
