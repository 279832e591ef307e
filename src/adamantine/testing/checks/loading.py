"""State dicts that do not belong: another order of parameters, another decay mode."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, replace
from typing import Any

import torch

from adamantine.testing.checks.state import copied, inherits_loading, twins
from adamantine.testing.errors import ConformanceError
from adamantine.testing.measure import copies, gap
from adamantine.testing.oracles import SWITCHES
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated
from adamantine.testing.registry import check
from adamantine.testing.resolve import subject_of
from adamantine.testing.subject import LR, WEIGHT_DECAY, Subject

#: Two runs of the same operations on the same numbers, of which one may have gone through float32.
SAME = 1e-6


@check("named-order", "state is loaded by the parameters' names where both sides have them", by="this kit")
def named_order(subject: Subject) -> Verdict:
    """Two named parameters of one shape, saved, loaded into an optimizer that lists them the other way round.

    Names are there since torch 2.6 (``Optimizer(model.named_parameters())``), and are saved with the state.
    Matching by name, or refusing, is asked for since pytorch #1489 and #3852, and by this kit. torch does not
    promise it: `Optimizer.load_state_dict` documents that names do not affect the loading, and that the saved
    ones override the live ones. Each weight then goes on with another's averages and nothing is said.
    """
    a, b = subject.parameters()
    named = [("a", a), ("b", b)]
    try:
        optimizer = subject.build(named, **subject.lr)
        takes_names = "param_names" in optimizer.param_groups[0]
        subject.run([a, b], optimizer, range(3))
    except NotApplicable:
        raise
    except Exception as error:
        return no(f"takes no names ({type(error).__name__}), so that an order cannot be checked")
    if not takes_names:
        return no("keeps no names, so that an order cannot be checked")
    saved = copied(optimizer.state_dict())
    if not saved["state"]:
        raise NotApplicable("keeps no state")
    ends = []
    for order in (["a", "b"], ["b", "a"]):
        again = dict(zip("ab", twins([a, b]), strict=True))
        successor = subject.build([(name, again[name]) for name in order], **subject.lr)
        try:
            successor.load_state_dict(copied(optimizer.state_dict()))
        except Exception as error:
            if order == ["a", "b"]:
                raise
            return passed(f"refused: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
        subject.run(list(again.values()), successor, range(3, 6))
        ends.append(list(again.values()))
    worst = max(gap(swapped, kept) for kept, swapped in zip(*ends, strict=True))
    if worst <= SAME:
        return passed("matched by name: the steps go on as if in the old order")
    torchs = type(optimizer).load_state_dict is torch.optim.Optimizer.load_state_dict
    return violated(
        f"each parameter goes on with the other's state, and nothing is said; after three steps they are off "
        f"by {worst:.2g} of the largest weight" + (", as torch documents" if torchs else ""),
        [
            "import copy",
            f"a, b = (torch.nn.Parameter({subject.tensor}) for _ in range(2))",
            *subject.new(groups='[("a", a), ("b", b)]', **subject.lr),
            "for _ in range(3):",
            "    a.grad, b.grad = torch.ones_like(a), -3 * torch.ones_like(b)",
            f"    {subject.step_of()}",
            *subject.new(groups='[("b", b), ("a", a)]', name="successor", **subject.lr),
            "successor.load_state_dict(copy.deepcopy(optimizer.state_dict()))",
            "def numbers(optimizer):",
            "    return [v.float().mean().item() for v in optimizer.state[a].values() if torch.is_tensor(v)]",
            'print("a\'s state when saved:", numbers(optimizer))',
            'print("a\'s state when loaded:", numbers(successor))',
            "print(numbers(optimizer) == numbers(successor))",
        ],
        inherited=inherits_loading(optimizer),
    )


@check("mode-flip", "a checkpoint of another decay mode does not change how it decays unseen", by="this kit")
def mode_flip(subject: Subject) -> Verdict:
    """AdamW's state dict into Adam, Adam's into AdamW, and the like: refused, or decaying as before.

    torch.optim keeps the mode as a flag in the groups, and loading replaces the groups: an Adam that has
    loaded an AdamW's checkpoint is an AdamW from then on, and nothing is said. Asked of classes that have a
    sibling with another mode beside them, or a switch for it.
    """
    siblings = _siblings(subject)
    if not siblings:
        raise NotApplicable("no class of another decay mode, and the same state, beside it")
    asked = []
    for sibling in siblings:
        try:
            bare, decayed = (
                [_after_loading(subject, source, decay) for source in (subject, sibling.subject)]
                for decay in (0.0, WEIGHT_DECAY)
            )
        except _Refused as refusal:
            asked.append(f"{sibling.label}: {refusal}")
            continue
        if _farthest(*bare) > SAME:
            continue  # another rule altogether
        if (worst := _farthest(*decayed)) <= SAME:
            asked.append(f"{sibling.label}: decays as before")
            continue
        return violated(
            f"after loading the state of {sibling.label} it decays otherwise than after loading its own, by "
            f"{worst:.2g} of the largest weight, and nothing is said",
            _flip_code(subject, sibling),
        )
    if not asked:
        raise NotApplicable("the state of its siblings is of another rule")
    return passed("; ".join(asked))


def _farthest(ends: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(gap(b, a) for a, b in zip(ends, others, strict=True))


class _Refused(Exception):
    """Loading was refused, or ends the training at its next step."""


def _after_loading(subject: Subject, source: Subject, decay: float) -> list[torch.Tensor]:
    """The subject's weights after steps on what the source saved, both without decay until then."""
    params = subject.parameters()
    optimizer = source.build(params, lr=LR, weight_decay=0.0)
    source.run(params, optimizer, range(2))
    saved = copied(optimizer.state_dict())
    for group in saved["param_groups"]:
        group["weight_decay"] = decay
    others = twins(params)
    successor = subject.build(others, lr=LR, weight_decay=decay)
    try:
        successor.load_state_dict(saved)
    except Exception as error:
        raise _Refused(f"refused, {type(error).__name__}") from error
    try:
        subject.run(others, successor, range(2, 5))
    except Exception as error:
        if source is subject:
            raise
        raise _Refused(f"its steps then raise {type(error).__name__}") from error  # not unseen
    return copies(others)


@dataclass(frozen=True)
class _Sibling:
    """A class or setting of the same rule with another decay mode."""

    subject: Subject
    label: str
    #: Code that constructs it over ``[w]``.
    code: str


def _siblings(subject: Subject) -> list[_Sibling]:
    """By a switch of the constructor, and by a class beside it with a W more or less in its name."""
    if not (subject.accepts("weight_decay") and subject.accepts("lr")):
        return []
    found = []
    for switch in (switch for switch in SWITCHES if switch in subject.signature):
        value = not subject.value_of(switch)
        other = replace(subject, hyper={**subject.hyper, switch: value})
        if not _constructs(other):  # it contradicts another argument
            continue
        code = other.new("w", lr=LR, weight_decay=WEIGHT_DECAY)[0].partition(" = ")[2]
        found.append(_Sibling(other, f"{subject.name}({switch}={value})", code))
    module, _, path = subject.reference.partition(":")
    less = re.sub(r"W(?![a-z])", "", path, count=1)
    more = re.sub(r"(Adam|SGD)(?!W)", r"\1W", path, count=1)
    for name in sorted({less, more} - {path}):
        if module and "." not in path and hasattr(importlib.import_module(module), name):
            try:
                other = replace(subject_of(f"{module}:{name}", hyper=subject.hyper), needs=subject.needs)
            except ConformanceError:  # its constructor wants something else
                continue
            code = f"{module}.{other.new('w', lr=LR, weight_decay=WEIGHT_DECAY)[0].partition(' = ')[2]}"
            found.append(_Sibling(other, name, code))
    return found


def _constructs(subject: Subject) -> bool:
    try:
        subject.build(subject.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    except Exception:
        return False
    return True


def _flip_code(subject: Subject, sibling: _Sibling) -> list[str]:
    module = subject.reference.partition(":")[0]
    options: dict[str, Any] = {"lr": LR, "weight_decay": WEIGHT_DECAY}
    return [
        *([f"import {module}"] if module else []),
        "ends = []",
        f"for other in ({subject.name!r}, {sibling.label!r}):",
        f"    w, v = (torch.nn.Parameter({subject.tensor}) for _ in range(2))",
        *[f"    {line}" for line in subject.new("w", name="saved", **options)],
        f"    if other == {sibling.label!r}:",
        f"        saved = {sibling.code}",
        *[f"    {line}" for line in subject.new("v", **options)],
        "    optimizer.load_state_dict(saved.state_dict())",
        "    v.grad = torch.ones_like(v) * 0.5",
        f"    {subject.step_of()}",
        "    v.grad = torch.zeros_like(v)",
        f"    {subject.step_of()}",
        "    ends.append(v.flatten()[0].item())",
        '    print(f"{type(optimizer).__name__} after loading the state of {other}:", ends[-1])',
        "print(abs(ends[0] - ends[1]) < 1e-6)",
    ]
