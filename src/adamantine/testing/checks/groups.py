"""Parameter groups: each with its own numbers, none disturbing another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import Parameter

from adamantine.testing.inputs import gradients
from adamantine.testing.measure import copies, gap
from adamantine.testing.outcome import NotApplicable, Verdict, no, passed, violated
from adamantine.testing.registry import check
from adamantine.testing.subject import LR, WEIGHT_DECAY, Subject

#: Two runs of the same operations on the same numbers; more than rounding in a fused list is another formula.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def _alone(subject: Subject, index: int, steps: int, **hyper: Any) -> Parameter:
    """Parameter ``index`` of two, trained by itself on its own gradients."""
    params = subject.parameters()
    optimizer = subject.build([params[index]], **hyper)
    for t in range(steps):
        _own_gradient(params, index, t)
        subject.step(optimizer)
    return params[index]


def _own_gradient(params: list[Parameter], index: int, t: int) -> None:
    gradients(params, t)
    for other, p in enumerate(params):
        if other != index:
            p.grad = None


def _separate(subject: Subject, name: str, values: tuple[Any, Any]) -> Verdict:
    """Whether a group with its own value of a hyperparameter moves as if all groups had that value."""
    if subject.coupled:
        raise NotApplicable("every parameter's step depends on the others, so groups cannot be told apart")
    subject.build(subject.parameters(), **{name: values[0]})  # NotApplicable, if it does not take the name
    options = {**subject.lr, **subject.strong_decay}
    options.pop(name, None)
    start = subject.parameters()
    try:
        mixed = _in_two_groups(subject, {}, [{name: value} for value in values], options)
    except Exception as error:
        return no(f"refuses: {type(error).__name__}: {' '.join(str(error).split())[:160]}")
    worst = 0.0
    for index, value in enumerate(values):
        alike = _in_two_groups(subject, {name: value}, [{}, {}], options)
        origin = start[index].detach()
        worst = max(worst, gap(mixed[index].detach() - origin, alike[index].detach() - origin))
    if worst <= TOLERANCE[subject.needs.dtype]:
        return passed(f"groups with {name} {values[0]} and {values[1]} each move by their own")
    return violated(
        f"of two groups with {name} {values[0]} and {values[1]}, one moves otherwise than where that is the "
        f"value of all, by {worst:.2g} of the movement",
        [
            f"a, b, c, d = (torch.nn.Parameter({subject.tensor}) for _ in range(4))",
            *subject.new(groups=_groups_code(subject, "ab", name, values), name="mixed", **options),
            *subject.new(groups=_groups_code(subject, "cd"), name="alike", **{name: values[1]}, **options),
            "for t in range(4):",
            "    for w in (a, b, c, d):",
            "        w.grad = torch.ones_like(w) * (1 - t / 2)",
            f"    {subject.step_of('mixed')}",
            f"    {subject.step_of('alike')}",
            f'print("in a group with {name}={values[1]}:", b.flatten()[0].item())',
            'print("where all have it:", d.flatten()[0].item())',
            "print(bool((b - d).abs().max() <= 1e-5 * (d - 1).abs().max()))",
        ],
    )


def _in_two_groups(
    subject: Subject, everywhere: dict[str, Any], own: list[dict[str, Any]], options: dict[str, Any]
) -> list[Parameter]:
    """Two parameters after four steps, each in a group with its own options."""
    params = subject.parameters()
    groups = [{"params": [p], **each} for p, each in zip(params, own, strict=True)]
    subject.run(params, subject.build(groups, **everywhere, **options), range(4))
    return params


def _groups_code(
    subject: Subject, params: Sequence[str], name: str = "", values: tuple[Any, ...] = ()
) -> str:
    """Code of a group per parameter, each with its value."""

    def entry(p: str) -> str:
        return f'("{p}", {p})' if subject.needs.named else p

    own = [f', "{name}": {value!r}' for value in values] or [""] * len(params)

    inside = ", ".join(f'{{"params": [{entry(p)}]{value}}}' for p, value in zip(params, own, strict=True))
    return f"[{inside}]"


@check("group-lr", "every group has its own lr", by="torch's documentation", presumes="determinism")
def group_lr(subject: Subject) -> Verdict:
    """Layer-wise rates: each group moves as an optimizer of its own would with the group's lr.

    Promised by torch.optim ("Per-parameter options"). Broken by ``self.param_groups[0]["lr"]`` or
    ``self.defaults["lr"]`` in ``step``.
    """
    return _separate(subject, "lr", (LR, LR / 4))


@check(
    "group-decay", "every group has its own weight_decay", by="torch's documentation", presumes="determinism"
)
def group_decay(subject: Subject) -> Verdict:
    """No decay for biases and norms is a group with ``weight_decay=0``; it must be heeded.

    Promised by torch.optim ("Per-parameter options"); asked for in pytorch #1402. Broken by a decay that is
    read from the defaults.
    """
    return _separate(subject, "weight_decay", (WEIGHT_DECAY, 0.0))


@check(
    "group-betas",
    "every group has its own betas or momentum",
    by="torch's documentation",
    presumes="determinism",
)
def group_betas(subject: Subject) -> Verdict:
    """The averages' rates per group, as torch.optim promises for every option of the constructor."""
    for name, values in {
        "betas": ((0.9, 0.99), (0.5, 0.9)),
        "momentum": (0.9, 0.5),
        "alpha": (0.9, 0.5),
    }.items():
        if subject.accepts(name) and subject.value_of(name) not in (None, 0, 0.0):
            default = subject.value_of(name)
            if isinstance(default, tuple | list) and len(default) != 2:
                continue
            return _separate(subject, name, values)
    raise NotApplicable("takes no pair of betas, no momentum and no alpha")


@check(
    "group-independence",
    "two groups with the same numbers move as one",
    by="torch's classes",
    presumes="determinism",
)
def group_independence(subject: Subject) -> Verdict:
    """Splitting the parameters into groups, in either order, changes no weight.

    By the formulas, in which a step count belongs to a parameter. Broken by one counter in the optimizer that
    every group advances: with two groups, the bias correction runs at twice the pace.
    """
    if subject.coupled:
        raise NotApplicable("every parameter's step depends on the others")
    ends = []
    for split in ("one group", "two groups", "two groups, reversed"):
        params = subject.parameters()
        start = copies(params)
        order = params[::-1] if "reversed" in split else params
        given: list[Any] = [{"params": [p]} for p in order] if "two" in split else list(params)
        subject.run(params, subject.build(given, **subject.lr, **subject.strong_decay), range(4))
        ends.append([p.detach() - s for p, s in zip(params, start, strict=True)])
    for split, end in zip(("two groups", "two groups in the other order"), ends[1:], strict=True):
        worst = max(gap(b, a) for a, b in zip(ends[0], end, strict=True))
        if worst > TOLERANCE[subject.needs.dtype]:
            return violated(
                f"{split} move otherwise than one, by {worst:.2g} of the movement",
                [
                    f"a, b, c, d = (torch.nn.Parameter({subject.tensor}) for _ in range(4))",
                    *subject.new("a", "b", name="one", **subject.lr, **subject.strong_decay),
                    *subject.new(
                        groups=_groups_code(subject, "cd"),
                        name="two",
                        **subject.lr,
                        **subject.strong_decay,
                    ),
                    "for t in range(4):",
                    "    for w in (a, b, c, d):",
                    "        w.grad = torch.ones_like(w) * (1 - t / 2)",
                    f"    {subject.step_of('one')}",
                    f"    {subject.step_of('two')}",
                    'print("one group:", a.flatten()[0].item(), b.flatten()[0].item())',
                    'print("two groups:", c.flatten()[0].item(), d.flatten()[0].item())',
                    "print(torch.allclose(a, c, rtol=1e-6) and torch.allclose(b, d, rtol=1e-6))",
                ],
            )
    return passed("one group or two, in either order: the same movement")


@check(
    "independence",
    "a parameter's steps do not depend on the other parameters",
    by="its paper",
    presumes="determinism",
)
def independence(subject: Subject) -> Verdict:
    """The same parameter alone, and beside another, takes the same steps to the bit.

    By every elementwise formula. Optimizers that estimate one number for the whole net (D-Adaptation,
    Prodigy) or clip inside mean to depend on the others: told, and judged only where the formula is known.
    """
    if not subject.coupled:
        return passed("five steps alone equal five steps beside another parameter, to the bit")
    if subject.oracle is None:
        return no("a step depends on the other parameters of the optimizer")
    return violated(
        "a parameter alone moves otherwise than beside another",
        [
            f"alone, a, b = (torch.nn.Parameter({subject.tensor}) for _ in range(3))",
            *subject.new("alone", name="one", **subject.lr),
            *subject.new("a", "b", name="two", **subject.lr),
            "for t in range(5):",
            "    for w in (alone, a):",
            "        w.grad = torch.ones_like(w)",
            "    b.grad = torch.ones_like(b) * 10",
            f"    {subject.step_of('one')}",
            f"    {subject.step_of('two')}",
            "print(alone.flatten()[0].item(), a.flatten()[0].item())",
            "print(torch.equal(alone, a))",
        ],
    )


@check(
    "add-param-group",
    "a group added in training starts like a new optimizer",
    by="torch's documentation",
    presumes="determinism",
)
def add_param_group(subject: Subject) -> Verdict:
    """Unfreezing a layer: the new parameter's steps are those of an optimizer that starts with it.

    `Optimizer.add_param_group`: "useful when fine tuning a pre-trained network as frozen layers can be made
    trainable and added to the Optimizer as training progresses". Broken by one step count for all, which
    skips the newcomer's bias correction.
    """
    if subject.coupled:
        raise NotApplicable("every parameter's step depends on the others")
    params = subject.parameters()
    start = copies(params)
    options = {**subject.lr, **subject.strong_decay}
    optimizer = subject.build(params[:1], **options)
    for t in range(-5, 0):
        _own_gradient(params, 0, t)
        subject.step(optimizer)
    named = [("late", params[1])] if subject.needs.named else [params[1]]
    optimizer.add_param_group({"params": named, **subject.needs.group})
    subject.run(params, optimizer, range(3))
    twin = _alone(subject, 1, 3, **options)
    worst = gap(params[1].detach() - start[1], twin.detach() - start[1])
    if worst <= TOLERANCE[subject.needs.dtype]:
        return passed("added after five steps, it moves as in an optimizer of its own")
    if subject.oracle is None:
        return no(
            f"added after five steps, it moves otherwise than in an optimizer of its own, by {worst:.2g}"
        )
    return violated(
        f"added after five steps, it moves otherwise than in an optimizer of its own, by {worst:.2g}",
        [
            f"a, late, alone = (torch.nn.Parameter({subject.tensor}) for _ in range(3))",
            *subject.new("a", **options),
            *subject.new("alone", name="single", **options),
            "a.grad = torch.ones_like(a)",
            *[subject.step_of()] * 5,
            f'optimizer.add_param_group({{"params": [{"(" if subject.needs.named else ""}'
            f"{chr(34) + 'late' + chr(34) + ', ' if subject.needs.named else ''}late"
            f"{')' if subject.needs.named else ''}]}})",
            "late.grad = alone.grad = torch.ones_like(late)",
            subject.step_of(),
            subject.step_of("single"),
            'print("added:", late.flatten()[0].item(), "alone:", alone.flatten()[0].item())',
            "print(torch.allclose(late, alone, rtol=1e-6))",
        ],
    )
