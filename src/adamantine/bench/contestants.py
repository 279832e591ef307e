"""A contestant: parameters, gradients and state of its own, and the one call that is measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from adamantine.bench import limit
from adamantine.bench.case import FLAT, LIMIT, Case, Iteration, Step, Work
from adamantine.bench.memory import bytes_held
from adamantine.bench.peers import LR, WEIGHT_DECAY, Make, Peer, quiet
from adamantine.torch import OPTIMIZERS, Flat, flatten

NOT_INSTALLED = "not installed"
BATCHES = 64  # so many that an MLP has not learned them by heart before the measurement ends


class Unavailable(Exception):
    """A contestant that cannot take part, and why, in a few words."""


@dataclass(frozen=True)
class Contestant:
    """``run`` is measured; ``prepare``, if there is one, comes before every run and is not.

    They hold what they work on, and ``kept`` the handle of a flat model and the model; dropped, it all is
    freed. ``held`` counts the bytes of parameters, gradients and state.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], None] | None = None
    kept: tuple[Flat | None, torch.nn.Module] | None = None
    held: Callable[[], int] | None = None


@dataclass(frozen=True)
class Entrant:
    """A contestant that is not built yet. ``build`` makes it and runs it once, so that all of its memory is
    taken; or raises `Unavailable`."""

    name: str
    build: Callable[[], Contestant]


def entrants(case: Case, work: Work, peers: Sequence[Peer], threads: int) -> list[Entrant]:
    """Everyone who takes part in a case, the most telling first."""
    found = []
    for name in case.ours:
        own = case.formats.get(name)
        stored = own.of(work) if own is not None and isinstance(work, Step) else work
        found.append(Entrant(name, partial(_ours, name, stored)))
    if case.limited and isinstance(work, Step):
        found.append(Entrant(LIMIT, partial(_limit, work, threads)))
    return found + [Entrant(p.name, partial(_peer, p, work)) for p in peers if p.key in case.peers]


# ------------------------------------------------------------------------------------------- who takes part


@dataclass(frozen=True)
class _Recipe:
    """What tells one contestant from another in the same work."""

    name: str
    make: Make
    clip: Callable[[list[Parameter]], object] | None = None  # None: not at all, or inside the step
    flatten: Callable[[torch.nn.Module], Flat] | None = None


def _ours(name: str, work: Work) -> Contestant:
    class_name, options = (work.optimizer, work.options) if isinstance(work, Step) else ("AdamW", {})
    cls: Any = OPTIMIZERS[class_name]
    make = partial(cls, lr=LR, weight_decay=WEIGHT_DECAY, max_norm=work.max_norm, **options)
    contestant = _built(_Recipe(name, make, flatten=flatten if name == FLAT else None), work)
    contestant.run()
    assert contestant.kept is not None
    flat, _ = contestant.kept
    if flat is not None and not flat.is_intact():
        raise Unavailable(f"one step, and it is flat no more: {flat}")
    return contestant


def _peer(peer: Peer, work: Work) -> Contestant:
    if not peer.installed:
        raise Unavailable(NOT_INSTALLED)
    clip = partial(clip_grad_norm_, max_norm=work.max_norm) if work.max_norm is not None else None
    try:
        with quiet():
            contestant = _built(_Recipe(peer.name, peer.make, clip), work)
            contestant.run()
    except Exception as error:  # whatever is wrong with it, the others go on
        said = " ".join(str(error).split())
        raise Unavailable(f"{type(error).__name__}: {said[:200]}") from error
    return contestant


def _limit(work: Step, threads: int) -> Contestant:
    if limit.native_traffic() is None:
        raise Unavailable("no native engine to measure it")
    dtype, state = getattr(torch, work.dtype), getattr(torch, work.state)
    theta, grads = (torch.ones(work.elements, dtype=dtype) for _ in range(2))
    slots = [torch.ones(work.elements, dtype=state) for _ in range(work.slots)]

    run = partial(limit.traffic, theta, grads, slots, threads)
    run()
    return Contestant(LIMIT, run)


# ------------------------------------------------------------------------------------------- what they do


def _built(recipe: _Recipe, work: Work) -> Contestant:
    return _step(recipe, work) if isinstance(work, Step) else _iteration(recipe, work)


def _step(recipe: _Recipe, work: Step) -> Contestant:
    module = torch.nn.ParameterList([Parameter(tensor) for tensor in _filled(work, seed=0, scale=0.02)])
    gradients = _filled(work, seed=1, scale=0.001)
    flat = recipe.flatten(module) if recipe.flatten else None
    params = list(module.parameters())

    def prepare() -> None:
        for p, gradient in zip(params, gradients, strict=True):
            if flat is not None and p.grad is not None:
                p.grad.copy_(gradient)  # where backward adds it up
            else:
                p.grad = gradient

    def prepare_fresh() -> None:
        for p, gradient in zip(params, [gradient.clone() for gradient in gradients], strict=True):
            p.grad = gradient

    prepare()
    if flat is not None and work.gradients == "kept":
        gradients.clear()  # they lie in the flat buffer now
    optimizer = recipe.make(params)
    step, clip = optimizer.step, recipe.clip

    def clip_and_step() -> None:
        assert clip is not None
        clip(params)
        step()

    fresh = work.gradients == "fresh"
    return Contestant(
        recipe.name,
        clip_and_step if clip else step,
        (prepare_fresh if flat is None else prepare) if fresh else None,
        kept=(flat, module),
        held=partial(bytes_held, params, optimizer),
    )


def _iteration(recipe: _Recipe, work: Iteration) -> Contestant:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(work.widths):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        xs = torch.randn(BATCHES, work.batch, work.widths[0])
        ys = torch.randint(work.widths[-1], (BATCHES, work.batch))
    batches = itertools.cycle(list(zip(xs, ys, strict=True)))
    flat = recipe.flatten(model) if recipe.flatten else None
    params = list(model.parameters())
    optimizer, clip = recipe.make(params), recipe.clip

    def run() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(model(x), y))
        if clip is not None:
            clip(params)
        optimizer.step()

    return Contestant(recipe.name, run, kept=(flat, model))


def _filled(work: Step, seed: int, scale: float) -> list[Tensor]:
    """Tensors of the work's shapes with random numbers, repeated where a tensor is long."""
    generator = torch.Generator().manual_seed(seed)
    dtype = getattr(torch, work.dtype)
    pattern = (torch.randn(2**20, generator=generator) * scale).to(dtype)
    tensors = []
    for shape in work.shapes:
        tensor = torch.empty(prod(shape), dtype=dtype)
        for piece in torch.split(tensor, len(pattern)):
            piece.copy_(pattern[: len(piece)])
        tensors.append(tensor.view(shape))
    return tensors
