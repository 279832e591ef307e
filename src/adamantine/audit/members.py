"""Every parameter of a model, and of an optimizer: its names, its places, whether it is meant to decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from adamantine.audit.errors import AuditError
from adamantine.audit.gains import gain
from adamantine.groups.reasons import Verdict, judge, listed_by_model


@dataclass(frozen=True)
class Parameter:
    """One tensor, with all its names and all its places."""

    name: str
    aliases: tuple[str, ...]
    tensor: Tensor
    verdict: Verdict
    owner: str  # class of the module that holds it; "" if it is not of the model
    groups: tuple[int, ...]  # indexes of all groups it is in, one entry per occurrence
    of_model: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return self.tensor.numel()


def named_modules(model: Any) -> dict[str, nn.Module]:
    """Every module by all its names. Several models are named by their place, as in a ModuleList."""
    models = list(model) if isinstance(model, list | tuple) else [model]
    for each in models:
        if not isinstance(each, nn.Module):
            raise AuditError(
                f"Invalid model: {type(each).__name__}; pass a torch.nn.Module, or a sequence of them"
            )
    if len(models) == 1 and not isinstance(model, nn.ModuleList):
        return dict(models[0].named_modules(remove_duplicate=False))
    if isinstance(model, nn.Module):
        return dict(model.named_modules(remove_duplicate=False))
    return {
        f"{place}.{name}".rstrip("."): module
        for place, each in enumerate(models)
        for name, module in each.named_modules(remove_duplicate=False)
    }


def members(modules: dict[str, nn.Module], groups: Sequence[dict[str, Any]]) -> list[Parameter]:
    """Every parameter of the modules, then what the groups have besides.

    Raises:
        AuditError: a parameter has no shape yet.
    """
    places = _places(groups)
    return [*_of_model(modules, places), *_strays(modules, groups, places)]


def _places(groups: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """id of a tensor → indexes of its groups, one entry per occurrence."""
    found: dict[int, list[int]] = {}
    for index, group in enumerate(groups):
        for tensor in group["params"]:
            found.setdefault(id(tensor), []).append(index)
    return found


def _of_model(modules: dict[str, nn.Module], places: Mapping[int, list[int]]) -> list[Parameter]:
    uses: dict[int, tuple[Tensor, list[str]]] = {}
    for prefix, module in modules.items():
        for attribute, own in module.named_parameters(recurse=False, remove_duplicate=False):
            name = f"{prefix}.{attribute}" if prefix else attribute
            _check_shape(name, own)
            uses.setdefault(id(own), (own, []))[1].append(name)
    listed = listed_by_model(modules, [name for _, names in uses.values() for name in names])
    found = []
    for tensor, (name, *aliases) in uses.values():
        module = modules[name.rpartition(".")[0]]
        verdict = judge(tensor, [name, *aliases], modules, listed, "no_decay")
        if is_flattened(name):
            verdict = Verdict(True, "flattened by FSDP1, so its shape tells nothing", "stated")
        if verdict.kind in {"matrix", "vector"} and (seen := gain(module, name.rpartition(".")[2])):
            verdict = Verdict(False, seen.reason, seen.kind)
        groups = tuple(places.get(id(tensor), ()))
        found.append(
            Parameter(name, tuple(aliases), tensor, verdict, type(module).__name__, groups, of_model=True)
        )
    return found


def is_flattened(name: str) -> bool:
    """Whether it is one of FSDP1's flat parameters, of which nobody can tell a matrix from a vector."""
    return "_flat_param" in name.split(".")


def _check_shape(name: str, tensor: Tensor) -> None:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise AuditError(
            f"{name} belongs to a lazy module and has no shape yet; run one forward pass before the audit"
        )


def _strays(
    modules: dict[str, nn.Module],
    groups: Sequence[dict[str, Any]],
    places: dict[int, list[int]],
) -> list[Parameter]:
    """What the optimizers train and the model does not have."""
    seen = {id(tensor) for module in modules.values() for tensor in module.parameters(recurse=False)}
    found = []
    for index, group in enumerate(groups):
        names = group.get("param_names") or [
            f"parameter {i} of group {index}" for i in range(len(group["params"]))
        ]
        for name, tensor in zip(names, group["params"], strict=False):
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            _check_shape(name, tensor)
            is_matrix = tensor.ndim >= 2
            verdict = Verdict(is_matrix, "not of this model", "matrix" if is_matrix else "vector")
            found.append(Parameter(name, (), tensor, verdict, "", tuple(places[id(tensor)]), of_model=False))
    return found
