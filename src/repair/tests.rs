//! What is prescribed for what was heard.

use super::*;
use crate::examine::tests::{Stage, from, slot, to};

fn plan(stage: Stage) -> Vec<String> {
    prescribe(&stage.evidence(), &Assignments::new()).repairs.iter().map(ToString::to_string).collect()
}
