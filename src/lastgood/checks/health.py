"""Whether the numbers can be trained on: the bytes may be right, and the numbers wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastgood.checks.telling import some
from lastgood.facts import Component
from lastgood.findings import Code, Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from lastgood.facts import Facts, FileFacts

_OF_OBSERVERS: Final = (".min_val", ".max_val")  # torch.ao.quantization: infinite until one has seen something
_FLOATS: Final = ("F", "BF", "C")


def check_numbers_are_finite(facts: Facts) -> Iterator[Finding]:
    """No NaN and no infinity in a weight or a moment. Masks, which hold -inf on purpose, are not counted."""
    for file in _files_with_numbers(facts):
        prefixes = facts.trained.get(file.path, ("",))  # beside them a job may keep what it likes
        nan, infinite = (
            frozenset(name for name in names if name.startswith(prefixes))
            for names in (file.numbers.nan, file.numbers.inf - file.numbers.nan)
        )
        infinite = frozenset(name for name in infinite if not name.endswith(_OF_OBSERVERS))
        if nan:
            yield Finding(Code.NOT_A_NUMBER, file.path, f"NaN in {some(nan)}")
        if infinite:
            yield Finding(Code.NOT_FINITE, file.path, f"infinity in {some(infinite)}")


def check_tensors_hold_numbers(facts: Facts) -> Iterator[Finding]:
    """No weight and no moment is a mere shape, of the device `meta`: what loads it ends in an error."""
    for file in _files_with_numbers(facts):
        prefixes = facts.trained.get(file.path, ("",))
        hollow = [name for name, tensor in file.tensors.items() if tensor.hollow and tensor.bytes]
        if told := [name for name in hollow if name.startswith(prefixes)]:
            yield Finding(Code.STORAGE_MISMATCH, file.path, f"no numbers, only a shape: {some(told)}")


def check_weights_are_not_zero(facts: Facts) -> Iterator[Finding]:
    """Not every matrix of the model is zero, and none became zero since the previous checkpoint."""
    tensors = list(_weights(facts))
    matrices = [(name, is_zero) for _file, name, is_zero, dimensions in tensors if dimensions > 1]
    begun = facts.progress.step != 0  # some models begin with zeros
    if begun and matrices and all(is_zero for _name, is_zero in matrices):
        yield Finding(Code.WEIGHTS_ZERO, None, f"all {len(matrices)} matrices of the model are zero")
        return
    if facts.previous is None:
        return
    before = _own_names(frozenset().union(*facts.previous.zero.values()), facts.previous.weights)
    for file in sorted({file for file, *_rest in tensors}):
        zeroed = [
            name
            for home, name, is_zero, _dimensions in tensors
            if home == file and is_zero and name in facts.previous.weights and name not in before
        ]
        if zeroed:
            yield Finding(Code.TENSOR_ZEROED, file, f"all zero, and was not in {facts.previous.name}: {some(zeroed)}")


def check_no_zero_pages_at_the_end(facts: Facts) -> Iterator[Finding]:
    """The end of a file is not zero from the middle of a tensor on, and nothing in it was never written."""
    for file in facts.files.values():
        if file.zero_tail:
            yield Finding(Code.ZERO_TAIL, file.path, f"its last {file.zero_tail} bytes are zero, within a tensor")
        if file.holes:
            yield Finding(Code.FILE_SPARSE, file.path, "it has holes: parts that were never written")


def _files_with_numbers(facts: Facts) -> Iterator[FileFacts]:
    homes = {*facts.homes.get(Component.WEIGHTS, ()), *facts.homes.get(Component.OPTIMIZER, ())}
    return (facts.files[home] for home in sorted(homes) if home in facts.files)


def _weights(facts: Facts) -> Iterator[tuple[str, str, bool, int]]:
    """File, the model's own name, whether it is all zero, and dimensions of each floating-point weight."""
    for home in facts.homes.get(Component.WEIGHTS, ()):
        file = facts.files.get(home)
        if file is None or file.digest is None:
            continue
        for name, tensor in file.tensors.items():
            own = own_name(name, facts.weights)
            if own in facts.weights and tensor.dtype.startswith(_FLOATS):
                yield home, own, name in file.numbers.zero, len(tensor.shape)


def own_name(name: str, weights: Collection[str]) -> str:
    """The model's name of a tensor: where the weights lie inside a larger state, less the key of that."""
    return name if name in weights else name.partition(".")[2]


def _own_names(names: Collection[str], weights: Collection[str]) -> frozenset[str]:
    return frozenset(own_name(name, weights) for name in names)
