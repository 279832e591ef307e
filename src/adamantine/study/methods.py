"""Which optimizers are compared: how one is named and built.

A spec is ``AdamW`` or ``AdamW(decay="cautious", betas=(0.9, 0.99))`` for one of :mod:`adamantine.torch`, or
``package.module:Class(...)`` for any other ``torch.optim.Optimizer``. Arguments are Python literals and are
never evaluated as code.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adamantine.study.errors import StudyError
from adamantine.study.origin import import_here

if TYPE_CHECKING:
    from torch.optim import Optimizer

DEFAULTS = ("SGD(momentum=0.9)", "Adam", "AdamW")


@dataclass(frozen=True)
class Spec:
    """A parsed method spec. ``module`` is empty for the optimizers of :mod:`adamantine.torch`."""

    module: str
    class_name: str
    arguments: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self.arguments)
        return f"{self.module}{':' if self.module else ''}{self.class_name}{f'({shown})' if shown else ''}"


def parse(text: str) -> Spec:
    """Reads a spec as the command line takes it.

    >>> str(parse('AdamW(betas=(0.9, 0.99), decay="cautious")'))
    "AdamW(betas=(0.9, 0.99), decay='cautious')"
    >>> parse("torch.optim:RMSprop").module
    'torch.optim'
    """
    head, bracket, tail = text.partition("(")
    module, _, name = head.strip().rpartition(":")
    try:
        tree = ast.parse(f"{name}{bracket}{tail}".strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        if not isinstance(call.func, ast.Name) or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError
        arguments = tuple((str(k.arg), ast.literal_eval(k.value)) for k in call.keywords)
    except (SyntaxError, ValueError) as error:
        raise StudyError(
            f"--method {text!r}: expected Class, Class(name=literal, ...) or module:Class(...), "
            "for example 'AdamW(betas=(0.9, 0.99))'"
        ) from error
    for fixed, option in (("lr", "--lr"), ("weight_decay", "--weight-decay")):
        if fixed in dict(arguments):
            raise StudyError(
                f"--method {text!r}: {fixed} is what the grid varies; give {option} '{name}=...' instead"
            )
    return Spec(module, call.func.id, arguments)


def resolve(spec: Spec) -> type[Optimizer]:
    """The optimizer class; raises :class:`StudyError` with close matches when there is none."""
    from torch.optim import Optimizer

    if not spec.module:
        from adamantine.torch import OPTIMIZERS

        if spec.class_name not in OPTIMIZERS:
            near = difflib.get_close_matches(spec.class_name, OPTIMIZERS, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise StudyError(
                f"unknown method {spec.class_name!r}: {hint}there are {', '.join(OPTIMIZERS)}, "
                "or any other as module:Class"
            )
        return OPTIMIZERS[spec.class_name]
    try:
        found = getattr(import_here(spec.module), spec.class_name)
    except Exception as error:  # the module is the user's code
        raise StudyError(f"--method {spec}: cannot import it: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise StudyError(f"--method {spec}: {spec.class_name} is not a torch.optim.Optimizer class")
    return found


def build(spec: Spec, groups: list[dict[str, Any]], lr: float) -> Optimizer:
    """The optimizer over groups that carry their own ``weight_decay``; ``lr`` is the peak of the schedule."""
    arguments = dict(spec.arguments)
    if not spec.module:
        arguments.setdefault("peak_lr", lr)
    factory: Any = resolve(spec)
    optimizer: Optimizer = factory(groups, lr=lr, **arguments)
    return optimizer


def probe(spec: Spec, lr: float, weight_decay: float) -> str:
    """Builds the optimizer once over a dummy, so that a wrong argument is found before the grid starts.

    Returns its decay mode in adamantine's words, ``""`` for a class that is not ours.
    """
    import torch

    from adamantine.torch import Optimizer

    group = {"params": [torch.nn.Parameter(torch.zeros(2, 2))], "weight_decay": weight_decay}
    try:
        optimizer = build(spec, [group], lr)
    except StudyError:
        raise
    except Exception as error:  # a class of the user's may raise anything
        raise StudyError(f"--method {spec} with lr={lr:g}, weight_decay={weight_decay:g}: {error}") from error
    if weight_decay and "weight_decay" not in optimizer.defaults:  # torch lets any key into a group
        raise StudyError(
            f"--method {spec}: {spec.class_name} has no weight_decay; give --weight-decay '{spec}=0'"
        )
    return str(optimizer.param_groups[0]["decay"]) if isinstance(optimizer, Optimizer) else ""


def titles(specs: Sequence[Spec], modes: Sequence[str]) -> list[str]:
    """A different title for each of different specs: where two would share one, what differs is added.

    >>> titles([parse("SGD(momentum=0.9)"), parse("SGD(momentum=0.99)"), parse("AdamW")], ["l2", "l2", ""])
    ['SGD + momentum + L2 [momentum=0.9]', 'SGD + momentum + L2 [momentum=0.99]', 'AdamW']
    """
    plain = [title(spec, mode) for spec, mode in zip(specs, modes, strict=True)]
    found = []
    for spec, mode, short in zip(specs, modes, plain, strict=True):
        namesakes = [dict(other.arguments) for other, its in zip(specs, plain, strict=True) if its == short]
        shown = {
            name
            for arguments in namesakes
            for name in arguments
            if any(name not in other or repr(other[name]) != repr(arguments[name]) for other in namesakes)
        }
        found.append(title(spec, mode, shown))
    return found


def title(spec: Spec, mode: str, shown: Collection[str] = ()) -> str:
    """What a table shows: ``AdamW``, ``Adam + L2``, ``SGD + momentum + L2``, ``torch.optim:Adam``.

    The arguments named in ``shown`` are spelled out even where words already stand for them.
    """
    if spec.module:
        return str(spec)
    arguments = dict(spec.arguments)
    name = spec.class_name
    if arguments.pop("momentum", 0.0):
        name += " + Nesterov momentum" if arguments.pop("nesterov", False) else " + momentum"
    if mode == "l2":
        name += " + L2"
    elif "decay" in arguments:
        name += f" ({mode})"
    arguments.pop("decay", None)
    details = ", ".join(f"{k}={v!r}" for k, v in spec.arguments if k in arguments or k in shown)
    return f"{name} [{details}]" if details else name
