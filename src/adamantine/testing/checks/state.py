"""Saving and going on: the state dict."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from adamantine.testing.measure import copies, gap, same
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import LR, Subject


def twins(params: list[Parameter]) -> list[Parameter]:
    """New parameters with the same values."""
    return [Parameter(value) for value in copies(params)]


def copied(state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state dict that later steps leave alone; through a file where its tensors cannot be copied."""
    try:
        return copy.deepcopy(state_dict)
    except Exception:  # tensor subclasses without clone
        file = io.BytesIO()
        torch.save(state_dict, file)
        file.seek(0)
        loaded: dict[str, Any] = torch.load(file, weights_only=False)
        return loaded


def inherits_loading(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``load_state_dict`` is torch's own, in a class that is not torch's own."""
    cls = type(optimizer)
    return cls.load_state_dict is torch.optim.Optimizer.load_state_dict and not cls.__module__.startswith(
        "torch.optim"
    )


@check(
    "resume",
    "a state dict loaded into a new optimizer continues bit for bit",
    by="torch's documentation",
    presumes="determinism",
)
def resume(subject: Subject) -> Verdict:
    """Three steps, the state dict into a new optimizer with another lr over copied weights, three more.

    Promised by torch.optim ("load_state_dict: loads the optimizer state"); what a checkpoint is for. Broken
    by counts and buffers kept in attributes, outside of ``state`` and the groups.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
    subject.run(params, optimizer, range(3))
    saved = copied(optimizer.state_dict())
    others = twins(params)
    other_lr: dict[str, Any] = {"lr": LR / 2} if subject.lr else {}
    successor = subject.build(others, **other_lr, **subject.strong_decay)
    successor.load_state_dict(saved)
    torch.default_generator.manual_seed(1)
    subject.run(params, optimizer, range(3, 6))
    torch.default_generator.manual_seed(1)
    subject.run(others, successor, range(3, 6))
    if same(copies(params), copies(others)):
        return passed("three steps after loading equal those without, to the bit")
    worst = max(gap(q, p) for p, q in zip(params, others, strict=True))
    return violated(
        f"three steps after loading differ from those without by {worst:.2g} of the largest weight",
        [
            "import copy",
            *three_steps(subject),
            *_successor(subject, "copy.deepcopy(optimizer.state_dict())"),
            *_three_more(subject),
        ],
    )


def three_steps(subject: Subject) -> list[str]:
    return [
        f"w = torch.nn.Parameter({subject.tensor})",
        *subject.new("w", **subject.lr, **subject.strong_decay),
        "for t in range(3):",
        "    w.grad = torch.ones_like(w) * (1 - t)",
        f"    {subject.step_of()}",
    ]


def _successor(subject: Subject, saved: str) -> list[str]:
    other_lr: dict[str, Any] = {"lr": LR / 2} if subject.lr else {}
    return [
        "v = torch.nn.Parameter(w.detach().clone())",
        *subject.new("v", name="successor", **other_lr, **subject.strong_decay),
        f"successor.load_state_dict({saved})",
    ]


def _three_more(subject: Subject) -> list[str]:
    return [
        "for t in range(3):",
        "    w.grad = torch.ones_like(w) * (0.5 - t)",
        "    v.grad = w.grad.clone()",
        f"    {subject.step_of()}",
        f"    {subject.step_of('successor')}",
        'print("uninterrupted:", w.flatten()[0].item(), "resumed:", v.flatten()[0].item())',
        "print(torch.equal(w, v))",
    ]


@check(
    "state-is-safe",
    "a saved state dict loads with weights_only=True, unchanged",
    by="torch's classes",
    presumes="determinism",
)
def state_is_safe(subject: Subject) -> Verdict:
    """``torch.save`` and ``torch.load`` with its default since torch 2.6, then three steps as without.

    torch.load refuses whatever is not tensors and plain values (weights_only): a state that needs more cannot
    be loaded from a file that one does not trust.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr, **subject.strong_decay)
    subject.run(params, optimizer, range(3))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    code = [
        "import io",
        *three_steps(subject),
        "file = io.BytesIO()",
        "torch.save(optimizer.state_dict(), file)",
        "file.seek(0)",
        *_successor(subject, "torch.load(file, weights_only=True)"),
        *_three_more(subject),
    ]
    try:
        saved = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        cause = next(
            (line for line in str(error).splitlines() if "Unsupported" in line or "GLOBAL" in line), ""
        )
        return violated(
            f"torch.load(weights_only=True) refuses its state dict, {type(error).__name__}: "
            f"{cause.strip()[:200]}",
            code,
        )
    others = twins(params)
    successor = subject.build(others, **subject.lr, **subject.strong_decay)
    successor.load_state_dict(saved)
    torch.default_generator.manual_seed(1)
    subject.run(params, optimizer, range(3, 6))
    torch.default_generator.manual_seed(1)
    subject.run(others, successor, range(3, 6))
    if same(copies(params), copies(others)):
        return passed("saved, loaded and continued to the bit")
    return violated("three steps after torch.save and torch.load differ from those without", code)


@check("state-dtype", "loading keeps the dtype of the state", by="this kit")
def state_dtype(subject: Subject) -> Verdict:
    """bfloat16 weights, some steps, a state dict loaded: every state tensor has the dtype it was saved in.

    A class that keeps float32 averages for bfloat16 weights loses them on loading if it leaves that to torch,
    which casts state to the parameter's dtype (pytorch #43706). For a class whose averages have the weights'
    dtype it is told whether float32 ones, from another class, would be kept.
    """
    params = subject.parameters(dtype=torch.bfloat16)
    try:
        optimizer = subject.build(params, **subject.lr)
        subject.run(params, optimizer, range(3))
    except NotApplicable:
        raise
    except Exception as error:
        raise NotApplicable(f"does not take bfloat16 weights ({type(error).__name__})") from error
    saved = copied(optimizer.state_dict())
    kept = _dtypes(saved)
    if not kept:
        raise NotApplicable("keeps no state of the weights' shape")
    successor = subject.build(twins(params), **subject.lr)
    successor.load_state_dict(copied(saved))
    loaded = _dtypes(successor.state_dict())
    if loaded != kept:
        changed = [f"{key}: {kept[key]} → {loaded.get(key)}" for key in kept if loaded.get(key) != kept[key]]
        return violated(
            f"loading changes the dtype of {'; '.join(changed[:3])}",
            [
                f"w = torch.nn.Parameter({subject.tensor}.bfloat16())",
                *subject.new("w", **subject.lr),
                "w.grad = torch.ones_like(w)",
                subject.step_of(),
                "def dtypes(optimizer):",
                "    state = optimizer.state_dict()['state'][0]",
                "    return {k: v.dtype for k, v in state.items() if torch.is_tensor(v) and v.numel() > 1}",
                *subject.new("w", name="successor", **subject.lr),
                "successor.load_state_dict(optimizer.state_dict())",
                'print("saved:", dtypes(optimizer))',
                'print("loaded:", dtypes(successor))',
                "print(dtypes(optimizer) == dtypes(successor))",
            ],
            inherited=inherits_loading(optimizer),
        )
    if any(dtype == torch.float32 for dtype in kept.values()):
        return passed("float32 state of bfloat16 weights stays float32")
    wide = copied(saved)
    for entry in wide["state"].values():
        for key, value in entry.items():
            if isinstance(value, Tensor) and value.dtype == torch.bfloat16:
                entry[key] = value.float()
    successor.load_state_dict(wide)
    if all(dtype == torch.float32 for dtype in _dtypes(successor.state_dict()).values()):
        return yes("float32 state of bfloat16 weights stays float32")
    return no("its state has the weights' dtype; float32 state from elsewhere would be cast to bfloat16")


def _dtypes(state_dict: dict[str, Any]) -> dict[str, torch.dtype]:
    return {
        str(key): value.dtype
        for entry in state_dict["state"].values()
        if isinstance(entry, dict)
        for key, value in entry.items()
        if isinstance(value, Tensor) and value.numel() > 1
    }


@check("snapshot-kept", "a state dict that was loaded is not changed by the steps that follow", by="this kit")
def snapshot_kept(subject: Subject) -> Verdict:
    """Load, step, and look at the dictionary that was given: it is what it was.

    As `Module.load_state_dict` does, which copies. torch.optim.Optimizer keeps the very tensors of the
    dictionary where their dtype and device fit, and its steps then write into them: of a snapshot in memory
    ("best so far", a fork of a run) only the first loading is right.
    """
    params = subject.parameters()
    optimizer = subject.build(params, **subject.lr)
    subject.run(params, optimizer, range(3))
    saved = copied(optimizer.state_dict())
    before = copied(saved)
    others = twins(params)
    successor = subject.build(others, **subject.lr)
    successor.load_state_dict(saved)
    subject.run(others, successor, range(3, 6))
    if same(_plain(saved), _plain(before)):
        return passed("three steps after loading leave every bit of the dictionary")
    return violated(
        "the steps after loading write into the dictionary that was loaded",
        [
            "import copy",
            *three_steps(subject),
            "snapshot = copy.deepcopy(optimizer.state_dict())",
            "def numbers(snapshot):",
            "    state = snapshot['state'][0].values()",
            "    return [v.float().mean().item() for v in state if torch.is_tensor(v)]",
            "before = numbers(snapshot)",
            *_successor(subject, "snapshot"),
            "v.grad = torch.ones_like(v)",
            subject.step_of("successor"),
            'print("the snapshot before:", before)',
            'print("and after a step of who loaded it:", numbers(snapshot))',
            "print(before == numbers(snapshot))",
        ],
        inherited=inherits_loading(optimizer),
    )


def _plain(state_dict: dict[str, Any]) -> list[Any]:
    """The tensors alone: foreign state may hold what cannot be compared."""
    return [
        (key, value)
        for entry in state_dict["state"].values()
        if isinstance(entry, dict)
        for key, value in entry.items()
        if isinstance(value, Tensor)
    ]
