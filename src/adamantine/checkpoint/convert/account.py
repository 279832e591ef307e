"""The account of a conversion: the written file is read again and held against what was to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.convert.report import ConversionReport, Error, equal

#: Flags that say no more than the decay mode, which every report accounts for.
_SAID_BY_MODE = frozenset({"decoupled_weight_decay", "decay"})


def compare(
    before: Mapping[str, Mapping[str, Any]],
    written: OptimizerState,
    after: OptimizerState,
    report: ConversionReport,
) -> None:
    """Count in ``report`` what arrived bit for bit, and measure what did not.

    Args:
        before: the entries of the state, as the source had them.
        written: what was to be written.
        after: what was read again.
        report: to be filled.
    """
    names = written.names
    name_after = dict(zip(names, names if set(names) == set(after.names) else after.names, strict=True))
    same = total = 0
    errors: dict[str, Error] = {}
    missing: dict[str, int] = {}
    for name, slots in before.items():
        arrived = after.state.get(name_after[name], {})
        for slot, value in slots.items():
            total += 1
            if slot not in arrived:
                missing[slot] = missing.get(slot, 0) + 1
            elif _same(value, arrived[slot]):
                same += 1
            elif isinstance(value, Tensor | Blockwise) and isinstance(arrived[slot], Tensor | Blockwise):
                error = errors.setdefault(slot, Error())
                error.add(_numbers(value), _numbers(arrived[slot]))
    report.kept.append(f"{same} of {total} entries of the state, as read back from what was written")
    report.changed += [f"{slot}: {error}" for slot, error in errors.items()]
    report.lost += [f"{slot} of {count} parameters" for slot, count in missing.items()]
    _compare_hyper(written, after, report)


def _compare_hyper(written: OptimizerState, after: OptimizerState, report: ConversionReport) -> None:
    """Hyperparameters, but for those that are off, and for a layout that has none (which says so itself)."""
    if len(written.groups) != len(after.groups):
        return
    lost: dict[str, None] = {}
    for number, (group, arrived) in enumerate(zip(written.groups, after.groups, strict=True)):
        for key, value in group.hyper.items() if arrived.hyper else ():
            if key not in arrived.hyper:
                if value is not None and value is not False and key not in _SAID_BY_MODE:
                    lost[key] = None
            elif not _same(value, arrived.hyper[key]):
                report.changed.append(f"{key} of group {number}: {value!r}, is {arrived.hyper[key]!r}")
    if lost:
        report.lost.append(f"of the groups: {', '.join(lost)}")


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return equal(before, after) or (
            before.numel() == after.numel() == 1 and float(before) == float(after)
        )
    if isinstance(before, Blockwise) and isinstance(after, Blockwise):
        return equal(before.codes, after.codes.view(before.codes.shape)) and equal(before.scale, after.scale)
    if isinstance(before, Blockwise) or isinstance(after, Blockwise):
        return equal(_numbers(before), _numbers(after))
    if isinstance(before, Tensor) or isinstance(after, Tensor):  # a step count
        return float(before) == float(after)
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def _numbers(value: Tensor | Blockwise) -> Tensor:
    return value.dequantize() if isinstance(value, Blockwise) else value
