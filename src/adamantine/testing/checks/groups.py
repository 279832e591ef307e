"""Parameter groups: each with its own numbers, none disturbing another."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import Parameter

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
    from adamantine.testing.subject import gradients

    gradients(params, t)
    for other, p in enumerate(params):
        if other != index:
            p.grad = None


def _separate(subject: Subject, name: str, values: tuple[Any, Any]) -> Verdict:
    """Whether two groups with two values of one hyperparameter move as two optimizers with one value each."""
    if subject.coupled:
        raise NotApplicable("every parameter's step depends on the others, so groups cannot be told apart")
    options = {**subject.lr, **subject.strong_decay}
    params = subject.parameters()
    subject.build(params, **{name: values[0]})  # NotApplicable, if it does not take the name
    options.pop(name, None)
    start = copies(params)
    groups = [{"params": [p], name: value} for p, value in zip(params, values, strict=True)]
    subject.run(params, subject.build(groups, **options), range(4))
    twins = [_alone(subject, i, 4, **{name: value}, **options) for i, value in enumerate(values)]
    worst = max(gap(p.detach() - s, q.detach() - s) for p, q, s in zip(params, twins, start, strict=True))
    if worst <= TOLERANCE[subject.needs.dtype]:
        return passed(f"groups with {name} {values[0]} and {values[1]} move as two optimizers would")
    return violated(
        f"two groups with {name} {values[0]} and {values[1]} move otherwise than two optimizers with these, by "
        f"{worst:.2g} of the movement",
        [
            f"a, b, alone = (torch.nn.Parameter({subject.tensor}) for _ in range(3))",
            *subject.new(groups=_groups_code(subject, name, values), **options),
            *subject.new("alone", name="single", **{name: values[1]}, **options),
            "for t in range(4):",
            "    for w in (a, b, alone):",
            "        w.grad = torch.ones_like(w) * (1 - t / 2)",
            f"    {subject.step_of()}",
            f"    {subject.step_of('single')}",
            f'print("in a group with {name}={values[1]}:", b.flatten()[0].item())',
            'print("in an optimizer with it:", alone.flatten()[0].item())',
            "print(torch.allclose(b, alone, rtol=1e-6))",
        ],
    )


def _groups_code(subject: Subject, name: str, values: tuple[Any, Any]) -> str:
    def entry(p: str) -> str:
        return f'("{p}", {p})' if subject.needs.named else p

    inside = ", ".join(
        f'{{"params": [{entry(p)}], "{name}": {value!r}}}' for p, value in zip("ab", values, strict=True)
    )
    return f"[{inside}]"


@check("group-lr", "every group has its own lr")
def group_lr(subject: Subject) -> Verdict:
    """Layer-wise rates: each group moves as an optimizer of its own would with the group's lr.

    Promised by torch.optim ("Per-parameter options"). Broken by ``self.param_groups[0]["lr"]`` or
    ``self.defaults["lr"]`` in ``step``.
    """
    return _separate(subject, "lr", (LR, LR / 4))


@check("group-decay", "every group has its own weight_decay")
def group_decay(subject: Subject) -> Verdict:
    """No decay for biases and norms is a group with ``weight_decay=0``; it must be heeded.

    Promised by torch.optim ("Per-parameter options"); asked for in pytorch #1402. Broken by a decay that is read
    from the defaults.
    """
    return _separate(subject, "weight_decay", (WEIGHT_DECAY, 0.0))


@check("group-betas", "every group has its own betas or momentum")
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


@check("group-independence", "two groups with the same numbers move as one")
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
                        groups='[{"params": [c]}, {"params": [d]}]'
                        if not subject.needs.named
                        else '[{"params": [("c", c)]}, {"params": [("d", d)]}]',
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


@check("independence", "a parameter's steps do not depend on the other parameters")
def independence(subject: Subject) -> Verdict:
    """The same parameter alone, and beside another, takes the same steps to the bit.

    By every elementwise formula. Optimizers that estimate one number for the whole net (D-Adaptation, Prodigy) or
    clip inside mean to depend on the others: told, and judged only where the formula is known.
    """
    if not subject.coupled:
        return passed("three steps alone equal three steps beside another parameter, to the bit")
    if subject.oracle is None:
        return no("a step depends on the other parameters of the optimizer")
    return violated(
        "a parameter alone moves otherwise than beside another",
        [
            f"alone, a, b = (torch.nn.Parameter({subject.tensor}) for _ in range(3))",
            *subject.new("alone", name="one", **subject.lr),
            *subject.new("a", "b", name="two", **subject.lr),
            "for t in range(3):",
            "    for w in (alone, a):",
            "        w.grad = torch.ones_like(w)",
            "    b.grad = torch.ones_like(b) * 10",
            f"    {subject.step_of('one')}",
            f"    {subject.step_of('two')}",
            "print(alone.flatten()[0].item(), a.flatten()[0].item())",
            "print(torch.equal(alone, a))",
        ],
    )


@check("add-param-group", "a group added in training starts like a new optimizer")
def add_param_group(subject: Subject) -> Verdict:
    """Unfreezing a layer: the new parameter's steps are those of an optimizer that starts with it.

    `Optimizer.add_param_group`: "useful when fine tuning a pre-trained network as frozen layers can be made
    trainable and added to the Optimizer as training progresses". Broken by one step count for all, which skips the
    newcomer's bias correction.
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
    optimizer.add_param_group({"params": named})
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
            'print("added:", late.flatten()[0].item(), "in an optimizer of its own:", alone.flatten()[0].item())',
            "print(torch.allclose(late, alone, rtol=1e-6))",
        ],
    )
