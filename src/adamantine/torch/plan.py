"""What a step is about to do with one group: its gradients checked and its numbers read, nothing moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adamantine.rules import Rule
from adamantine.rules.decay import NEED_PEAK, Coefficients, coefficients
from adamantine.schedules import peak_lr
from adamantine.torch.engines.contract import Update
from adamantine.torch.engines.native import Lot, host_row
from adamantine.torch.storage.checks import check_storable
from adamantine.torch.storage.layout import Formats, formats

Group = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """One group's part in a step: parameters with their gradients, and the numbers of the group."""

    group: Group
    rule: Rule
    params: list[Tensor]
    grads: list[Tensor]
    lr: Any
    decay: Coefficients
    formats: Formats

    def updates(
        self, states: list[dict[str, Any]], steps: list[int], grad_scale: float, *, alone: bool = False
    ) -> Iterator[Update]:
        """The parameters in lots that share every host number (normally one lot).

        Args:
            states: of each parameter, complete; the carried numbers in them are renewed.
            steps: t of each.
            alone: one after the other, none joined.
        """
        group, rule = self.group, self.rule
        differentiable = group["differentiable"]
        hyper = {name: host(group[name], differentiable) for name in rule.hyper}
        lots: dict[Any, list[int]] = {}
        for index, (state, t) in enumerate(zip(states, steps, strict=True)):
            carried = tuple(float(state[name]) for name in rule.carried)
            lots.setdefault((t, carried), []).append(index)
        for (t, carried), members in lots.items():
            scalars, renewed = rule.host(t, hyper, dict(zip(rule.carried, carried, strict=True)))
            lot = [states[index] for index in members]
            for name, value in renewed.items():
                for state in lot:
                    state[name].fill_(double(value))
            yield Update(
                rule=rule,
                thetas=[self.params[index] for index in members],
                grads=[self.grads[index] for index in members],
                states=lot,
                formats=self.formats,
                scalars=scalars,
                decay=self.decay,
                eta=self.lr,
                grad_scale=-grad_scale if group["maximize"] else grad_scale,
                differentiable=differentiable,
                foreach=False if alone else group.get("foreach"),
            )


def plan_of(group: Group, params: list[Tensor], rule: Rule, owner: str) -> Plan | None:
    """What these are about to do, every check made and nothing changed but the record of the lr.

    ``owner`` is the class's name, for messages. None where no parameter has a gradient.
    """
    params = [p for p in params if p.grad is not None]
    if not params:
        return None
    how = formats(group, rule)
    if how.has_blocks or how.weights != "nearest":
        for p, name in _names(group, params):
            check_storable(p, name, how)
    lr, decay = lr_and_decay(group)
    return Plan(group, rule, params, [_usable(p, rule, group, how, owner) for p in params], lr, decay, how)


def _names(group: Group, params: Iterable[Tensor]) -> Iterator[tuple[Tensor, str]]:
    """These parameters of a group with what the group calls them, else with their shape."""
    all_names = group.get("param_names", [])
    paired = len(all_names) == len(group["params"])  # a view of one parameter has the names of all
    known = dict(zip(group["params"], all_names, strict=True)) if paired else {}
    for p in params:
        yield p, known.get(p) or f"a parameter of shape {tuple(p.shape)}"


def lr_and_decay(group: Group) -> tuple[Any, Coefficients]:
    """η of this step, which is put on record, and what the decay mode makes of it."""
    differentiable = group["differentiable"]
    lr = host(group["lr"], differentiable)
    if (value := double(lr)) > group["highest_lr"]:
        group["highest_lr"] = value
    return lr, coefficients(
        group["decay"],
        lr=lr,
        weight_decay=host(group["weight_decay"], differentiable),
        peak_lr=peak_lr(group) if group["decay"] in NEED_PEAK else None,
    )


def native_row(lot: Lot, rule: Rule, group: Group) -> tuple[int, list[Any], tuple[float, ...]]:
    """The host numbers of what the kernel moves together."""
    lr, decay = lr_and_decay(group)
    hyper = {name: host(group[name], False) for name in rule.hyper}
    return host_row(lot, rule, hyper, decay, lr, -1.0 if group["maximize"] else 1.0)


def host(value: Any, differentiable: bool) -> Any:
    """A double, or a tensor without dimensions where gradients are to flow through it."""
    if type(value) is float:  # nearly always
        return value
    if isinstance(value, tuple | list):
        return tuple([host(item, differentiable) for item in value])
    if isinstance(value, Tensor):
        return value.reshape(()) if differentiable else value.item()
    return value


def double(value: Any) -> float:
    """The number alone, whether or not gradients flow through the tensor that holds it."""
    if type(value) is float:
        return value
    return float(value.detach() if isinstance(value, Tensor) else value)


def _usable(p: Tensor, rule: Rule, group: Group, how: Formats, owner: str) -> Tensor:
    """The gradient as the engines take it: dense, or sparse where rule and formats allow it."""
    grad = p.grad
    assert grad is not None
    if not grad.is_sparse:
        return grad.resolve_conj()  # autograd conjugates lazily, view_as_real wants it done
    if not rule.zero_at_zero:
        if rule.name in {"heavy_ball", "nesterov"}:  # momentum moves every row anyway
            return grad.to_dense()
        raise RuntimeError(
            f"{owner} does not support sparse gradients, please consider SparseAdam instead, "
            "or a layer with sparse=False"
        )
    if group["differentiable"]:
        return grad.to_dense()
    if group["decay"] == "l2" and group["weight_decay"] != 0:
        raise RuntimeError(
            "weight_decay option is not compatible with sparse gradients: "
            f"L2 gives every row a gradient; {owner}(..., decay='decoupled') decays without one"
        )
    return grad if how.is_plain(p) else grad.to_dense()  # rows are no blocks
