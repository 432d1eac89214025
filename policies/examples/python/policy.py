"""Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around."""

import json

from ballast import failing_politely, read_parameters
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import cluster
from wit_world.imports.types import Description, Failure_NotReady, Move, Node, Proposal

KNOWN = {"threshold-percent": (100, 1000, 110), "max-moves": (1, 1000, 100)}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        key: {"type": "integer", "minimum": least, "maximum": most, "default": default}
        for key, (least, most, default) in KNOWN.items()
    },
}


@failing_politely
class Policy(exports.Policy):
    # Objects are componentize-py's to make: what lasts belongs to the class.
    parameters = read_parameters("{}", KNOWN)

    def describe(self) -> Description:
        summary = "moves slots from the fullest node to the emptiest until memory is even"
        return Description("even-memory", "0.1.0", summary, ["slot/bytes"], json.dumps(SCHEMA))

    def configure(self, parameters: str) -> None:
        Policy.parameters = read_parameters(parameters, KNOWN)

    def plan(self) -> Proposal:
        sizes = cluster.slot_metric("bytes")
        if sizes is None:
            raise Err(Failure_NotReady("slot/bytes is not there yet"))
        return even_memory(cluster.nodes(), list(cluster.owners()), sizes, cluster.in_flight(), Policy.parameters)


def even_memory(
    nodes: list[Node], owners: list[int], sizes: list[float], in_flight: list[Move], parameters: dict[str, int]
) -> Proposal:
    threshold, moves_max = parameters["threshold-percent"], parameters["max-moves"]
    drains = ["draining" in node.tags for node in nodes]
    getters = [
        index for index, node in enumerate(nodes) if not {"cordoned", "draining", "loading", "suspect"} & set(node.tags)
    ]
    # No slot moves twice, and those in flight are as good as there.
    moved = set()
    for begun in in_flight:
        owners[begun.slot] = begun.target
        moved.add(begun.slot)
    load = [0.0] * len(nodes)
    slots_of: list[list[int]] = [[] for _ in nodes]
    for slot, owner in enumerate(owners):
        if owner < len(nodes):
            load[owner] += sizes[slot]
            slots_of[owner].append(slot)
    if not getters:
        return Proposal([], "no node can take slots", [])
    # Not sum(): since Python 3.12 it rounds less than one addition after the other, and replays must agree.
    total = 0.0
    for bytes_there in load:
        total += bytes_there
    fair = total / drains.count(False)
    imbalance = max(load[index] for index in range(len(nodes)) if not drains[index]) / fair if fair > 0 else 1.0

    moves: list[Move] = []

    def carry(slot: int, giver: int, taker: int, reason: str) -> None:
        load[giver] -= sizes[slot]
        load[taker] += sizes[slot]
        owners[slot] = taker
        moved.add(slot)
        moves.append(Move(slot, taker, reason))

    def emptiest() -> int:
        # Of equals, min and max take the first.
        return min(getters, key=load.__getitem__)

    # Draining nodes are emptied first, lowest slots first.
    for slot, giver in enumerate(owners):
        if len(moves) == moves_max:
            break
        if slot not in moved and giver < len(nodes) and drains[giver]:
            carry(slot, giver, emptiest(), "drain")

    givers = [index for index in range(len(nodes)) if not drains[index]]
    while givers and len(moves) < moves_max:
        giver, taker = max(givers, key=load.__getitem__), emptiest()
        if 100 * load[giver] <= threshold * fair:
            break
        half = (load[giver] - load[taker]) / 2
        fitting = (slot for slot in slots_of[giver] if slot not in moved and 0 < sizes[slot] <= half)
        best = max(fitting, key=sizes.__getitem__, default=None)
        if best is None:
            givers.remove(giver)
        else:
            carry(best, giver, taker, "memory")
    summary = f"moves: {len(moves)}; the fullest node holds {int(imbalance * 100)}% of its fair share"
    return Proposal(moves, summary, [("imbalance", imbalance)])
