"""Whether the optimizer belongs to these weights, and whether it holds anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.checks.model import weights_are_readable
from lastgood.checks.telling import home_of
from lastgood.facts import Component, Presence
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from lastgood.facts import Facts, OptimizerFacts, TensorFact

# The moments of torch's optimizers that have the shape of their parameter: torch/optim.
LIKE_ITS_PARAMETER: Final = frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg"})
# What the groups of torch's optimizers name, of torch 2.13, and what its schedulers add.
_OPTIONS_OF_TORCH: Final = frozenset(
    {"params", "param_names", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable",
     "differentiable", "fused", "momentum", "dampening", "nesterov", "decoupled_weight_decay", "alpha", "centered",
     "rho", "lr_decay", "initial_accumulator_value", "lambd", "t0", "etas", "step_sizes", "momentum_decay",
     "beta2_decay", "d", "adjust_lr_fn", "ns_coefficients", "ns_steps", "initial_lr", "swa_lr", "max_lr", "min_lr",
     "max_momentum", "base_momentum", "correct_bias", "name", "group_name", "lr_scale"}
)  # fmt: skip
_LOST: Final = "those parameters begin anew, and the loss may jump: resume from an older checkpoint"
_SCALER: Final = "scaler.pt"
VANISHING: Final = 1e-8  # a weight of one does not move by it, in float32
_FEW: Final = 0.25  # some jobs train parameters that they do not save with the model
_MOST: Final = 0.5


def check_moments_fit_the_weights(facts: Facts) -> Iterator[Finding]:
    """Moments have the shapes of weights, and of each other. Flattened and factored ones are not compared.

    Optimizers of others may keep what they like under the same names: one number for all, or a few directions.
    """
    optimizer = facts.optimizer
    if optimizer is None or not facts.weights or not weights_are_readable(facts):
        return
    alike, of_torch = _alike(optimizer), optimizer.options <= _OPTIONS_OF_TORCH
    for parameter, moments in alike.items():
        if of_torch and len({moment.shape for moment in moments.values()}) > 1:
            shapes = ", ".join(f"{key} {list(moment.shape)}" for key, moment in moments.items())
            yield Finding(
                Code.OPTIMIZER_DISAGREES, home_of(facts, Component.OPTIMIZER), f"parameter {parameter}: {shapes}"
            )
    known = {tensor.shape for tensor in facts.weights.values()}
    known |= set() if of_torch else {shape for whole in known for shape in _summed_up(whole)}
    shapes_of_moments = [next(iter(moments.values())).shape for moments in alike.values()]
    strangers = [shape for shape in shapes_of_moments if shape not in known]
    few = len(strangers) <= _FEW * len(alike) and optimizer.parameters != len(facts.weights)
    if strangers and not few and not _is_flat(strangers):
        shapes = ", ".join(str(list(shape)) for shape in sorted(set(strangers))[:3])
        another = of_torch and _is_of_another_model(facts, strangers, alike)
        code = Code.OPTIMIZER_DISAGREES if another else Code.OPTIMIZER_STRANGE
        yield Finding(
            code, home_of(facts, Component.OPTIMIZER), f"it has moments of {shapes}: no weight has that shape"
        )


def check_states_are_whole(facts: Facts) -> Iterator[Finding]:
    """What the optimizer keeps of a parameter is all there: its loader would take it, its next step end in an error."""
    for lacking in facts.optimizer.lacking if facts.optimizer else ():
        yield Finding(Code.STATE_SHAPE, home_of(facts, Component.OPTIMIZER), lacking)


def check_no_state_is_lost(facts: Facts) -> Iterator[Finding]:
    """What it kept of a parameter at the previous checkpoint, it keeps still: none of torch's forgets any."""
    before, optimizer = facts.previous, facts.optimizer
    if before is None or optimizer is None or before.parameters != optimizer.parameters:
        return
    if 0 < optimizer.kept < (before.kept or 0):
        message = f"it keeps the moments of {optimizer.kept} parameters, where {before.kept} had some before"
        yield Finding(Code.OPTIMIZER_STRANGE, home_of(facts, Component.OPTIMIZER), message, _LOST)


def check_rate_is_not_negative(facts: Facts) -> Iterator[Finding]:
    """No learning rate leads away from what is to be learned. The last bits of a schedule's end may."""
    lowest = min(facts.optimizer.rates, default=0.0) if facts.optimizer else 0.0
    if lowest < -VANISHING:
        yield Finding(Code.RATE_NEGATIVE, home_of(facts, Component.OPTIMIZER), f"the learning rate is {lowest:.3g}")


def check_rate_is_not_zero(facts: Facts) -> Iterator[Finding]:
    """A learning rate is a number, and moves something: else it is the end of a schedule, or one that went wrong."""
    if facts.optimizer and facts.optimizer.unsound_rates:
        home = home_of(facts, Component.OPTIMIZER)
        yield Finding(Code.NOT_A_NUMBER, home, f"the learning rate is {facts.optimizer.unsound_rates[0]}")
    if facts.optimizer and facts.optimizer.rates and 0 <= max(facts.optimizer.rates) < VANISHING:
        message = f"the learning rate is {max(facts.optimizer.rates):.3g}"
        yield Finding(Code.RATE_ZERO, home_of(facts, Component.OPTIMIZER), message)


def check_moments_are_not_all_zero(facts: Facts) -> Iterator[Finding]:
    """After a step, some moment is not zero."""
    file = facts.files.get(home_of(facts, Component.OPTIMIZER) or "")
    if file is None or facts.optimizer is None or not any(facts.optimizer.steps):
        return
    names = [name for name in file.tensors if name.rpartition(".")[2] in LIKE_ITS_PARAMETER]
    if names and file.numbers.zero.issuperset((*names, *_kept_beside(names, file.tensors))):
        yield Finding(Code.OPTIMIZER_EMPTY, file.path, f"all {len(names)} moments are zero")


def check_scaler_is_there(facts: Facts) -> Iterator[Finding]:
    """The loss scaler of a training in half precision is there, as it was in the previous checkpoint."""
    before = {file.path for file in facts.previous.files} if facts.previous else set()
    if facts.components.get(Component.SCALER) is Presence.MISSING or _SCALER in before - facts.inventory.names:
        home = home_of(facts, Component.SCALER) or _SCALER
        yield Finding(Code.SCALER_MISSING, home, "the state of the loss scaler, for half precision, is not there")


def _alike(optimizer: OptimizerFacts) -> dict[str, Mapping[str, TensorFact]]:
    found: dict[str, dict[str, TensorFact]] = {}
    for name, moment in optimizer.moments.items():
        parameter, _, key = name.rpartition(".")
        if key in LIKE_ITS_PARAMETER and moment.shape:
            found.setdefault(parameter, {})[key] = moment
    return dict(found)


def _is_of_another_model(facts: Facts, strangers: Sequence[object], alike: Collection[str]) -> bool:
    """It names as many parameters as there are weights, and most are others. A job may train what it does not save with
    the model: a critic, prompts; and some models are saved in other pieces than they are trained in, such as experts.
    """
    same_number = facts.optimizer is not None and facts.optimizer.parameters == len(facts.weights)
    return same_number and len(strangers) > _MOST * len(alike)


def _summed_up(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Of a weight's shape: one number for each row, or for each entry of another dimension."""
    for kept in range(len(shape)):
        yield tuple(size if place == kept else 1 for place, size in enumerate(shape))


def _kept_beside(names: Sequence[str], tensors: Mapping[str, TensorFact]) -> list[str]:
    """What else the optimizer keeps of the same parameters, counts aside: others may leave one of them unused."""
    parameters = {name.rpartition(".")[0] for name in names}
    return [name for name, tensor in tensors.items() if tensor.shape and name.rpartition(".")[0] in parameters]


def _is_flat(shapes: list[tuple[int, ...]]) -> bool:
    """Sharded optimizers keep all parameters as one long row."""
    return all(len(shape) == 1 for shape in shapes)
