"""Mending a checkpoint, without ever losing a byte: planned first, and put back if it is not then as was planned.

Each file is written beside its place and put there by a rename; what lay there stays as FILE.backup. `take_back`
takes care of what a kill left behind, and comes before anything is looked at.
"""

from lastgood.mending.carrying import carry_out, require_as_planned, require_not_cut_short, take_back
from lastgood.mending.neighbours import neighbours_of
from lastgood.mending.planning import plan_repairs
from lastgood.mending.words import Neighbour, Plan, Repair

__all__ = [
    "Neighbour",
    "Plan",
    "Repair",
    "carry_out",
    "neighbours_of",
    "plan_repairs",
    "require_as_planned",
    "require_not_cut_short",
    "take_back",
]
