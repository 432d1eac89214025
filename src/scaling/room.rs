//! Whether those that stay can take what one holds that goes.

use super::Scaling;
use crate::model::{Snapshot, Tag, resource};

/// Whether the other primaries can take what this one has, and bear the loss of one more of them.
pub(crate) fn rest_suffices(leaving: usize, snapshot: &Snapshot, scaling: &Scaling) -> Result<(), String> {
    let stays = |index: usize| index != leaving && !snapshot.primaries[index].is(Tag::Draining);
    let rest: Vec<usize> = (0..snapshot.primaries.len()).filter(|index| stays(*index)).collect();
    let floor = scaling.min_shards as usize;
    if rest.len() < floor {
        return Err(format!("{} primaries would be left, and scaling.min_shards is {floor}", rest.len()));
    }
    let column = |name| snapshot.node_column(name).unwrap_or_default();
    let known = |name, index: usize| column(name).get(index).copied().filter(|value: &f64| value.is_finite());
    let all = |name| (0..snapshot.primaries.len()).filter_map(|index| known(name, index)).sum::<f64>();
    let limits: Option<Vec<f64>> =
        rest.iter().map(|index| known(resource::MEMORY_MAX, *index).filter(|most| *most > 0.0)).collect();
    if let Some(limits) = limits.filter(|limits| !limits.is_empty()) {
        let use_after = all(resource::MEMORY_USED) / limits.iter().sum::<f64>();
        if use_after > scaling.memory_max {
            let (percent, most) = (use_after * 100.0, scaling.memory_max * 100.0);
            return Err(format!(
                "the rest would use {percent:.0}% of its memory, and scaling.memory_max is {most:.0}%"
            ));
        }
    }
    // One more may fail: what is left then must carry the load.
    let left = rest.len().saturating_sub(1).max(1);
    let busy = all(resource::CPU) / left as f64;
    if busy > scaling.cpu_max {
        let (percent, most) = (busy * 100.0, scaling.cpu_max * 100.0);
        return Err(format!(
            "after the loss of one more, the rest would be busy {percent:.0}% of the time, and scaling.cpu_max is {most:.0}%"
        ));
    }
    Ok(())
}
