"""The fewest bytes to move so that no node is above its limits: reads a task as JSON, prints the optimum."""

import json
import sys

import highspy


def main() -> None:
    task = json.load(sys.stdin)
    owners, size, loads, limits = task["owners"], task["bytes"], task["loads"], task["limits"]
    nodes = range(len(limits[0]))
    model = highspy.Highs()
    model.silent()
    model.setOptionValue("mip_rel_gap", 0.001)
    model.setOptionValue("time_limit", 60.0)
    placed = [[model.addBinary(obj=0.0 if node == owner else size[slot]) for node in nodes] for slot, owner in enumerate(owners)]
    for slot in placed:
        model.addConstr(sum(slot[1:], slot[0]) == 1)
    for load, limit in zip(loads, limits):
        for node in nodes:
            model.addConstr(sum((share * slot[node] for share, slot in zip(load, placed)), 0.0) <= limit[node])
    model.minimize()
    # Where time ran out, what is proven is the bound and not the best found: the comparison is then the harder one.
    print(model.getInfo().mip_dual_bound)


main()
