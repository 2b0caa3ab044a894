"""Which checkpoints of a run are kept, which are removed, and why. Pure: no disk, no clock.

A rule asks to keep; no rule asks to remove: what nobody wants is removed, unless a guard stands before it. Guards are
no settings. Only checkpoints that may be handed out satisfy a rule.
"""

from lastgood.retention.gating import Wait, waits_for
from lastgood.retention.planning import plan
from lastgood.retention.rules import best_of, stretch_of
from lastgood.retention.words import Decision, Plan, Policy, Reason, Why, policy_of, remote_policy_of, why_kept

__all__ = [
    "Decision",
    "Plan",
    "Policy",
    "Reason",
    "Wait",
    "Why",
    "best_of",
    "plan",
    "policy_of",
    "remote_policy_of",
    "stretch_of",
    "waits_for",
    "why_kept",
]
