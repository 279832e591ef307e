"""The state of an optimizer, whoever saved it: what every layout is read into and written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.errors import CheckpointError

Rule = Literal["adam", "amsgrad", "lion", "sgd", "unknown"]

#: What an entry holds tells the rule, where the layout does not: torch's names of the slots.
_RULE_OF_SLOTS: dict[frozenset[str], Rule] = {
    frozenset({"exp_avg", "exp_avg_sq"}): "adam",
    frozenset({"exp_avg", "exp_avg_sq", "max_exp_avg_sq"}): "amsgrad",
    frozenset({"exp_avg"}): "lion",
    frozenset({"momentum_buffer"}): "sgd",
}


@dataclass
class Group:
    """Parameters that train alike.

    Attributes:
        names: of the parameters, in the order of the optimizer.
        hyper: every hyperparameter the source states, under torch's names; what it does not state is absent.
        decay: the mode (`adamantine.rules.decay.Mode`) in whose unit ``hyper["weight_decay"]`` is; None where
            the source does not tell.
    """

    names: list[str]
    hyper: dict[str, Any] = field(default_factory=dict)
    decay: str | None = None


@dataclass
class OptimizerState:
    """One optimizer at one step.

    Attributes:
        layout: where it comes from, a name of `adamantine.checkpoint.convert.LAYOUTS`.
        groups: the parameter groups, which together name every parameter once.
        state: per parameter, slot → value, under torch's names of the slots (``exp_avg``, ``step``). Values
            are tensors on the CPU, `Blockwise` codes, numbers, or whatever else torch's optimizers keep.
        named: False where the source has no names; they are then the positions "0", "1", ….
        optimizer: the class that saved it, if the source tells: ``torch.optim.AdamW``.
        weights: the parameters themselves, where the source keeps them with the state (DeepSpeed's fp32).
        unread: what else the source holds and the neutral form does not: one sentence each.
    """

    layout: str
    groups: list[Group]
    state: dict[str, dict[str, Any]]
    named: bool = True
    optimizer: str | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [name for group in self.groups for name in group.names]

    @property
    def rule(self) -> Rule:
        """The update rule that the slots belong to; "unknown" where they differ or are of no known rule."""
        kinds = {
            frozenset(slots) - {"step"}
            for slots in self.state.values()
            if any(map(_is_given, slots.values()))
        }
        kinds.discard(frozenset())
        return _RULE_OF_SLOTS.get(kinds.pop(), "unknown") if len(kinds) == 1 else "unknown"

    def tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """(parameter, slot, tensor) of every plain tensor."""
        for name, slots in self.state.items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    yield name, slot, value

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The parameter's shape, which its per-element slots have; None where it has never stepped."""
        if name in self.weights:
            return tuple(self.weights[name].shape)
        for slot, value in self.state.get(name, {}).items():
            if isinstance(value, Blockwise) or (isinstance(value, Tensor) and slot != "step"):
                return tuple(value.shape)
        return None

    def check(self) -> None:
        """Every parameter named once, every entry of a named parameter.

        Raises:
            CheckpointError: else, with the name.
        """
        names = self.names
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise CheckpointError(f"the checkpoint names the parameter {twice!r} twice")
        if strangers := set(self.state) - set(names):
            raise CheckpointError(
                f"the checkpoint has state of {sorted(strangers)[0]!r}, a parameter that no group holds"
            )


def _is_given(value: Any) -> bool:
    return value is not None
