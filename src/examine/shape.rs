//! What an open slot looks like: which flags stand, on whom, and whether keys lie behind them. Pure.

use serde::Serialize;

use super::claim::Claim;
use super::evidence::{Evidence, Party, Testimony};
use crate::model::{OpenDirection, OpenSlot, Role, SlotId};

/// How a slot is open. A slot may be open in several ways at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "shape")]
pub enum Shape {
    /// The owner migrates it to the shard whose primary imports it: the state of every move that is under way.
    HalfMoved {
        /// The owner.
        source: Party,
        /// Who gets it.
        target: Party,
    },
    /// The owner migrates it, and nobody imports it.
    MigratingOnly {
        /// The owner.
        source: Party,
        /// Whom its flag names.
        to: Party,
        /// The healthy primary of that one's shard, if there is one.
        target: Option<Party>,
        /// Whether keys of it are there, or may be: a member of the cluster that is not heard, or not well, or does not tell, may hold
        /// what clients wrote.
        keys_there: bool,
    },
    /// A primary imports it, and its owner does not migrate it there.
    ImportingOnly {
        /// Who imports.
        importer: Party,
        /// Whom its flag names.
        from: Party,
        /// The owner, if all agree on one.
        owner: Option<Party>,
        /// Whether the importer holds keys of it, or does not tell.
        keys_there: bool,
    },
    /// A flag that says nothing: a migrating one on a node that does not own the slot, an importing one on its owner.
    Meaningless {
        /// The node.
        node: Party,
    },
    /// A replica carries a flag that its primary does not: it would come into force at a failover (valkey#998).
    OnReplica {
        /// The replica.
        replica: Party,
        /// Its primary, if it answered.
        primary: Option<Party>,
        /// Whether its server takes `SETSLOT` over from its primary (Valkey from 8.0 on).
        follows_setslot: bool,
    },
}

/// Every way in which a slot is open, by slot.
#[must_use]
pub fn shapes(evidence: &Evidence) -> Vec<(SlotId, Shape)> {
    let mut shapes = Vec::new();
    for slot in &evidence.open() {
        let scene = Scene { evidence, slot, claim: evidence.claim(slot) };
        let nodes = evidence.nodes.values();
        let flags = nodes.flat_map(|node| node.itself().open.iter().map(move |open| (node, open)));
        for (node, open) in flags.filter(|(_, open)| open.slot == slot) {
            shapes.extend(scene.shape(node, open).map(|shape| (slot, shape)));
        }
    }
    shapes
}

struct Scene<'a> {
    evidence: &'a Evidence,
    slot: SlotId,
    claim: Claim,
}

impl Scene<'_> {
    /// The shape that one flag stands for; none for the importing half of a pair, which its other half tells.
    fn shape(&self, node: &Testimony, open: &OpenSlot) -> Option<Shape> {
        let party = |id| self.evidence.party(id);
        let id = &node.itself().id;
        if !node.is_primary() {
            return self.on_replica(node, open);
        }
        let owns = node.itself().slots.contains(self.slot);
        Some(match (&open.direction, owns) {
            (OpenDirection::Migrating(_), false) | (OpenDirection::Importing(_), true) => {
                Shape::Meaningless { node: party(id) }
            }
            (OpenDirection::Migrating(to), true) => {
                let target =
                    self.evidence.primary_of_shard(to).filter(|target| self.evidence.is_well(&target.itself().id));
                match target {
                    Some(target) if self.imports(target) => {
                        Shape::HalfMoved { source: party(id), target: party(&target.itself().id) }
                    }
                    target => Shape::MigratingOnly {
                        source: party(id),
                        to: party(to),
                        keys_there: match target {
                            Some(node) => node.keys_in(self.slot) > 0 || node.hidden > 0 || !node.untold.is_empty(),
                            // A node without slots that failed is no member in the topology's eyes; those who have not
                            // forgotten it would let it come back.
                            None => self.evidence.knows(to),
                        },
                        target: target.map(|node| party(&node.itself().id)),
                    },
                }
            }
            (OpenDirection::Importing(from), false) => {
                if self.owner_sends_to(node) {
                    return None;
                }
                Shape::ImportingOnly {
                    importer: party(id),
                    from: party(from),
                    owner: self.claim.agreed().map(party),
                    keys_there: node.keys_in(self.slot) > 0 || !node.untold.is_empty(),
                }
            }
        })
    }

    fn on_replica(&self, node: &Testimony, open: &OpenSlot) -> Option<Shape> {
        let Role::Replica { of } = &node.itself().role else { return None };
        let primary = of.as_ref().and_then(|of| self.evidence.nodes.get(of));
        // Valkey keeps its replicas informed on purpose.
        let same = primary.is_some_and(|primary| {
            primary.itself().open.iter().any(|flag| flag.slot == self.slot && flag.direction == open.direction)
        });
        (!same).then(|| Shape::OnReplica {
            replica: self.evidence.party(&node.itself().id),
            primary: primary.map(|primary| self.evidence.party(&primary.itself().id)),
            follows_setslot: node.replicates_setslot,
        })
    }

    fn imports(&self, node: &Testimony) -> bool {
        let importing =
            |open: &OpenSlot| open.slot == self.slot && matches!(open.direction, OpenDirection::Importing(_));
        node.itself().open.iter().any(importing)
    }

    /// Whether a primary that owns the slot migrates it to this one's shard.
    fn owner_sends_to(&self, importer: &Testimony) -> bool {
        let owners = self.evidence.primaries().filter(|node| node.itself().slots.contains(self.slot));
        owners.flat_map(|owner| &owner.itself().open).filter(|open| open.slot == self.slot).any(|open| {
            let OpenDirection::Migrating(to) = &open.direction else { return false };
            self.evidence.primary_of_shard(to).is_some_and(|target| target.itself().id == importer.itself().id)
                && self.evidence.is_well(&importer.itself().id)
        })
    }
}
