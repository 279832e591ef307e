"""What a checkpoint holds, in memory: plain data, tensors, and no optimizer.

`save` makes it from live objects, `load` puts it into them, and who translates between formats makes it from
a state dict (`Contents.of`) and hands it to `adamantine.checkpoint.write`.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

import adamantine
from adamantine.checkpoint.decay import mode_of
from adamantine.checkpoint.errors import CheckpointError


@dataclass
class Group:
    """A parameter group without its parameters.

    Attributes:
        hyper: every other key of torch's group, as the class named it (lr, betas, peak_lr, …).
        decay: the decay mode that this meant in the class that saved it, None if unknown.
    """

    hyper: dict[str, Any]
    decay: str | None = None


@dataclass
class Parameter:
    """A parameter's state; its values belong to the model.

    Attributes:
        name: in the model, None where the optimizer was not told.
        group: its group's index.
        shape: of the parameter, None if unknown.
        dtype: of the parameter, as in ``"bfloat16"``; None if unknown.
        state: slot → tensor or other value; None where the optimizer has no entry for it.
    """

    name: str | None
    group: int
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    state: dict[Any, Any] | None = None


@dataclass
class SchedulerState:
    """A scheduler's state dict.

    Attributes:
        cls: its class.
        state: what its ``state_dict()`` gave.
        not_saved: what that leaves out, in words (functions).
    """

    cls: str
    state: dict[str, Any]
    not_saved: list[str] = field(default_factory=list)


def versions() -> dict[str, str]:
    """Of what runs here; stored for whoever looks for a difference, never compared."""
    return {
        "adamantine": adamantine.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


@dataclass
class Contents:
    """Everything in a checkpoint.

    Attributes:
        optimizer: the class, as in ``"torch.optim.AdamW"``; None if unknown.
        groups: in the optimizer's order.
        parameters: in the optimizer's order, group by group.
        other_state: state that belongs to no parameter, under the optimizer's own keys.
        other: further keys of the optimizer's state dict.
        scheduler: of the learning rate, or None.
        model: the model's state dict, or None.
        model_versions: module → what torch notes beside the state dict (``_metadata``): the version by which
            a module knows state from before its last change. None without a model.
        rng: states of random number generators, or None.
        extra: whatever the user gave.
        versions: of the programs that wrote it.
    """

    optimizer: str | None
    groups: list[Group]
    parameters: list[Parameter]
    other_state: dict[Any, Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)
    scheduler: SchedulerState | None = None
    model: dict[str, Any] | None = None
    model_versions: dict[str, Any] | None = None
    rng: dict[str, Any] | None = None
    extra: Any = None
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def of(
        cls,
        state_dict: Mapping[str, Any],
        optimizer: str | None,
        *,
        shapes: Sequence[tuple[int, ...]] | None = None,
        dtypes: Sequence[str] | None = None,
        names: Sequence[str | None] | None = None,
    ) -> Contents:
        """From torch's form of an optimizer's state.

        Args:
            state_dict: with ``"state"`` and ``"param_groups"``; its tensors are referred to, not copied.
            optimizer: the class it is of.
            shapes: of the parameters, in the order of the groups.
            dtypes: likewise.
            names: likewise, where the groups have no ``param_names``.

        Raises:
            CheckpointError: not torch's form, or numbers of parameters that do not agree.

        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> state = torch.optim.AdamW([weight], lr=0.5).state_dict()
        >>> Contents.of(state, "torch.optim.AdamW", names=["w"]).parameters
        [Parameter(name='w', group=0, shape=None, dtype=None, state=None)]
        """
        try:
            saved_groups, state = list(state_dict["param_groups"]), dict(state_dict["state"])
            members = [list(group["params"]) for group in saved_groups]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"not torch's form of an optimizer's state ({type(error).__name__}: {error}): it needs "
                "'state' and 'param_groups' with 'params', as optimizer.state_dict() gives them"
            ) from None
        ids = [each for group in members for each in group]
        told = [
            name for group in saved_groups for name in group.get("param_names", [None] * len(group["params"]))
        ]
        labels = told if names is None else list(names)
        for what, values in (("names", labels), ("shapes", shapes), ("dtypes", dtypes)):
            if values is not None and len(values) != len(ids):
                raise CheckpointError(
                    f"{len(values)} {what} for {len(ids)} parameters of the optimizer's state"
                )
        parameters: list[Parameter] = []
        for number, members_of in enumerate(members):
            for saved_id in members_of:
                at = len(parameters)
                parameters.append(
                    Parameter(
                        labels[at],
                        number,
                        None if shapes is None else tuple(shapes[at]),
                        None if dtypes is None else dtypes[at],
                        state.pop(saved_id, None),
                    )
                )
        groups = []
        for group in saved_groups:
            hyper = {key: value for key, value in group.items() if key not in {"params", "param_names"}}
            groups.append(Group(hyper, mode_of(optimizer, hyper)))
        other = {key: value for key, value in state_dict.items() if key not in {"state", "param_groups"}}
        return cls(optimizer, groups, parameters, state, other)

    def members(self) -> list[list[int]]:
        """Of each group, the indices of its parameters."""
        found: list[list[int]] = [[] for _ in self.groups]
        for index, parameter in enumerate(self.parameters):
            found[parameter.group].append(index)
        return found

    def state_dict(self) -> dict[str, Any]:
        """torch's form; it shares tensors and containers with this."""
        state = {i: p.state for i, p in enumerate(self.parameters) if p.state is not None}
        groups = []
        for group, members in zip(self.groups, self.members(), strict=True):
            names = [self.parameters[i].name for i in members]
            named = {"param_names": names} if names and None not in names else {}
            groups.append({**group.hyper, **named, "params": members})
        return {**self.other, "state": {**state, **self.other_state}, "param_groups": groups}
