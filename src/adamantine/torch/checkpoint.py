"""Loading a state dict into an optimizer: by name, in its own format, and never into another decay mode."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from adamantine.rules.hyper import check
from adamantine.torch.storage import restore
from adamantine.torch.storage.change import Account, StorageChange
from adamantine.torch.storage.checks import check_storable

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

Group = dict[str, Any]

#: Keys of a live group that tell where it is, not how it trains.
_PLACE = ("params", "param_names")


def load(
    optimizer: Optimizer, state_dict: Mapping[str, Any], *, decay: str, state: str = "saved"
) -> StorageChange | None:
    """See `Optimizer.load_state_dict`. Nothing of the optimizer has changed when this raises."""
    if decay not in {"match", "saved", "live"}:
        raise ValueError(f"Invalid decay: {decay!r}; choose 'match', 'saved' or 'live'")
    if state not in {"saved", "live"}:
        raise ValueError(f"Invalid state: {state!r}; choose 'saved' or 'live'")
    state_dict = dict(state_dict)
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        replaced = hook(optimizer, state_dict)
        state_dict = state_dict if replaced is None else replaced
    if missing := {"state", "param_groups"} - set(state_dict):
        raise ValueError(
            f"not an optimizer's state dict: no {sorted(missing)} among its keys "
            f"{sorted(map(str, state_dict))[:5]}; give what optimizer.state_dict() returned"
        )
    matched = match(optimizer.param_groups, state_dict["param_groups"])
    groups, transfers, said = [], [], []
    for number, (live, saved, _) in enumerate(matched):  # a loop, since its warning counts frames
        groups.append(_merge(optimizer, number, live, saved, decay))
        transfer, remarks = restore.settle(optimizer, number, live, saved, groups[-1], state)
        transfers.append(transfer)
        said += remarks
    owners = {
        saved_id: (param, name, transfer)
        for (live, _, ids), transfer in zip(matched, transfers, strict=True)
        for param, saved_id, name in zip(live["params"], ids, _labels(live), strict=True)
    }
    for param, name, transfer in owners.values():
        check_storable(param, name, transfer.live)
    for saved_id, entry in state_dict["state"].items():
        if saved_id in owners:
            param, name, transfer = owners[saved_id]
            restore.check_entry(optimizer, param, name, transfer, entry)
    account = Account()
    without: set[str] = set()  # the names of those whose residual has no place here
    restored: defaultdict[Any, Any] = defaultdict(dict)
    for saved_id, entry in state_dict["state"].items():
        if saved_id in owners:
            param, name, transfer = owners[saved_id]
            restored[param] = restore.restore(entry, param, name, transfer, account)
            if restore.drops_residual(entry, param, transfer):
                without.add(name)
        else:  # state that belongs to no parameter, as torch passes it on
            restored[saved_id] = deepcopy(entry)
    change = account.statement()
    if state == "saved" and not change.is_exact:
        said.append(
            "the checkpoint does not say in which format it keeps the state, so it is put into the one that "
            f"this optimizer was constructed with:\n{change}"
        )
    if dropped := [name for _, name, _ in owners.values() if name in without]:
        said.append(
            f"beside {dropped[0]} ({len(dropped)} in all) the checkpoint has a residual of 16-bit weights, "
            "which these parameters have no place for: it is left out, at most 2⁻⁸ of each weight. To keep "
            "it, load with the model's dtype and the weights= that were saved"
        )
    for remark in said:
        warnings.warn(remark, UserWarning, stacklevel=3)
    optimizer.skipped_steps = max((int(group.get("skipped_steps", 0)) for group in groups), default=0)
    optimizer.__setstate__({"state": restored, "param_groups": groups})
    for post_hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        post_hook(optimizer)
    return change if change.slots else None


def match(live_groups: list[Group], saved_groups: list[Group]) -> list[tuple[Group, Group, list[Any]]]:
    """For every live group: its saved group, and the saved ids in the order of the live parameters."""
    if _tells_all(live_groups) and _tells_all(saved_groups):
        return _match_names(live_groups, saved_groups)
    if len(live_groups) != len(saved_groups):
        raise ValueError(
            "loaded state dict has a different number of parameter groups: "
            f"{len(saved_groups)}, the optimizer has {len(live_groups)}"
        )
    for number, (live, saved) in enumerate(zip(live_groups, saved_groups, strict=True)):
        if len(live["params"]) != len(saved["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                f"group: group {number} has {len(saved['params'])} parameters, here {len(live['params'])}"
            )
    return [(live, saved, saved["params"]) for live, saved in zip(live_groups, saved_groups, strict=True)]


def _tells_all(groups: list[Group]) -> bool:
    """Whether every parameter has a name of its own. Two networks in one optimizer may share theirs."""
    names = [name for group in groups for name in group.get("param_names", [None])]
    return bool(names) and None not in names and len(set(names)) == len(names)


def _match_names(live_groups: list[Group], saved_groups: list[Group]) -> list[tuple[Group, Group, list[Any]]]:
    saved_at = {
        name: (number, saved_id)
        for number, group in enumerate(saved_groups)
        for name, saved_id in zip(group["param_names"], group["params"], strict=True)
    }
    live_names = {name for group in live_groups for name in group["param_names"]}
    if missing := live_names - set(saved_at):
        raise ValueError(_names_message("the checkpoint has no parameter", missing, saved_at))
    if foreign := set(saved_at) - live_names:
        raise ValueError(_names_message("the optimizer has no parameter", foreign, live_names))
    matched = []
    for number, live in enumerate(live_groups):
        sources = {saved_at[name][0] for name in live["param_names"]}
        if len(sources) > 1:
            by_source = {saved_at[name][0]: name for name in live["param_names"]}
            raise ValueError(
                f"group {number} holds parameters that the checkpoint has in different groups: "
                + ", ".join(f"{name!r} in group {source}" for source, name in sorted(by_source.items()))
                + "; build the optimizer with the checkpoint's groups, or edit the state dict"
            )
        if not sources:
            raise ValueError(f"group {number} is empty and cannot be matched by name; leave it out")
        source = sources.pop()
        if len(saved_groups[source]["params"]) != len(live["params"]):
            strangers = set(saved_groups[source]["param_names"]) - set(live["param_names"])
            raise ValueError(
                f"group {number} lacks {_some(strangers)}, which the checkpoint has in the same group; "
                "build the optimizer with the checkpoint's groups, or edit the state dict"
            )
        matched.append((live, saved_groups[source], [saved_at[name][1] for name in live["param_names"]]))
    return matched


def _merge(optimizer: Optimizer, number: int, live: Group, saved: Group, decay: str) -> Group:
    """The saved hyperparameters on the live parameters, with the decay mode settled."""
    saved = {key: deepcopy(value) for key, value in saved.items() if key not in _PLACE}
    names = {"param_names": live["param_names"]} if "param_names" in live else {}
    group = {**live, **saved, "params": live["params"], **names}
    if "constructed_lr" not in saved:  # torch's: what the live group knew of its peak is another run's
        group |= {"constructed_lr": float(group["lr"]), "highest_lr": 0.0}
    mode = _mode(optimizer, saved)
    if decay == "match" and _decays(saved.get("weight_decay", 0.0)) and _is_mute(optimizer, saved):
        warnings.warn(
            f"the checkpoint does not say how group {number} decays (torch before 2.7 did not for Adam and "
            f"AdamW); taken for decay={mode!r}, as torch.optim.{type(optimizer).__name__} trains. "
            "load_state_dict(..., decay='saved') accepts that, decay='live' keeps the optimizer's mode and λ",
            UserWarning,
            stacklevel=4,
        )
    if mode != live["decay"]:
        if decay == "live":
            group["weight_decay"] = live["weight_decay"]  # the saved λ is in the other mode's unit
        elif decay == "match" and _decays(saved.get("weight_decay", 0.0)):
            raise ValueError(
                f"the checkpoint trains group {number} with decay={mode!r} (weight_decay="
                f"{saved['weight_decay']}), this {type(optimizer).__name__} with decay={live['decay']!r}. "
                f"Construct it with decay={mode!r} to go on as before; or load_state_dict(..., "
                "decay='saved') to adopt the checkpoint's mode, decay='live' to keep this one with "
                f"weight_decay={live['weight_decay']}"
            )
    group["decay"] = mode if decay == "saved" else live["decay"]
    check(group)
    for key in ("constructed_lr", "highest_lr"):
        if not isinstance(group[key], int | float):
            raise ValueError(f"the checkpoint's {key} of group {number} is {group[key]!r:.60}, no number")
    return group


def _mode(optimizer: Optimizer, saved: Group) -> str:
    if "decay" in saved:
        return str(saved["decay"])
    if "decoupled_weight_decay" in saved:
        return "decoupled" if saved["decoupled_weight_decay"] else "l2"
    return optimizer.foreign_decay


def _is_mute(optimizer: Optimizer, saved: Group) -> bool:
    """Whether this may be another class's state: Adam and AdamW have the same keys and differ in decay."""
    return "decoupled_weight_decay" in optimizer.defaults and not {"decay", "decoupled_weight_decay"} & set(
        saved
    )


def _decays(weight_decay: Any) -> bool:
    return bool(float(weight_decay) != 0.0)


def _labels(group: Group) -> Iterable[str]:
    names = group.get("param_names")
    return map(repr, names) if names else (f"parameter {i}" for i in range(len(group["params"])))


def _names_message(words: str, names: set[str], others: Iterable[str]) -> str:
    others = list(others)
    for wrapper in ("module.", "_orig_mod."):
        if any(name.startswith(wrapper) != others[0].startswith(wrapper) for name in names if others):
            return (
                f"{words} {_some(names)}: one side was wrapped (DistributedDataParallel, torch.compile) and "
                f"has {wrapper!r} before its names; build the optimizer from the module inside"
            )
    close = get_close_matches(min(names), others, n=1)
    hint = f" (is {min(names)!r} the other side's {close[0]!r}?)" if close else ""
    return (
        f"{words} {_some(names)}{hint}; rename it in the state dict, or build the optimizer from the same "
        "model.named_parameters()"
    )


def _some(names: set[str], most: int = 5) -> str:
    shown = ", ".join(map(repr, sorted(names)[:most]))
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
