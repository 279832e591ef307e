"""The storage formats of a state dict that is loaded: what it says, whether it is so, what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adamantine.formats.block import Code
from adamantine.torch.options import check_state_keys
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.change import Account
from adamantine.torch.storage.checks import check_once, waits
from adamantine.torch.storage.elements import block_count
from adamantine.torch.storage.layout import (
    RESIDUAL,
    ROUNDING,
    WITH_RESIDUAL,
    coded_keys,
    codes_shape,
    dtype_name,
    residual_dtype,
    slot_keys,
)
from adamantine.torch.storage.recode import drop_superfluous
from adamantine.torch.storage.recode_slots import recode_slots
from adamantine.torch.storage.transfer import Policy, Transfer

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

Group = dict[str, Any]


def settle(
    optimizer: Optimizer, number: int, live: Group, saved: Mapping[str, Any], group: Group, state: str
) -> tuple[Transfer, list[str]]:
    """Decide the formats of a group that is loaded, and say what is not as the constructor was told.

    A checkpoint that says how it stores (ours) is believed; one that does not is in the dtypes it has, and
    what the constructor asked for holds.

    Args:
        number: of the group, for messages.
        live: the optimizer's group.
        saved: the checkpoint's.
        group: both merged; its ``state`` is set.
        state: ``"saved"`` or ``"live"``.

    Raises:
        ValueError: formats that are none, or that this rule or these parameters cannot have.
    """
    statement = {**group, "state": saved.get("state")}
    optimizer._check_options(statement)
    rule = optimizer.rule(group)
    keys = list(rule.slots.values())
    owner = f"{type(optimizer).__name__} ({rule.name})"
    check_state_keys(statement["state"], keys, owner)
    policy: Policy = "as live" if state == "live" else "as saved" if "state" in saved else "as asked"
    group["state"] = statement["state"] if policy == "as saved" else live["state"]
    group["weights"] = statement["weights"]
    if policy == "as live" and not _needs_weights(statement["weights"], live["weights"]):
        group["weights"] = live["weights"]
    transfer = Transfer(
        group,
        rule,
        saved=storage.formats(statement, rule),
        live=storage.formats(group, rule),
        policy=policy,
        on_host=optimizer.offload,
    )
    said = []
    asked = [storage.slot_option(live, key) for key in keys]
    kept = [storage.slot_option(group, key) for key in keys]
    if policy == "as saved" and live["state"] is not None and asked != kept:
        said.append(
            f"the checkpoint keeps the state of group {number} in state={group['state']!r}, this optimizer "
            f"was constructed with state={live['state']!r}: the checkpoint's is kept. load_state_dict(..., "
            "state='live') puts it into the optimizer's format and returns what that costs"
        )
    if live["weights"] is not None and live["weights"] != (group["weights"] or "nearest"):
        said.append(
            f"the checkpoint keeps the weights of group {number} in weights={transfer.live.weights!r}, this "
            f"optimizer was constructed with weights={live['weights']!r}: the checkpoint's is kept. When the "
            f"parameters are loaded too, optimizer.store_as(weights={live['weights']!r}) changes it"
        )
    return transfer, said


def _needs_weights(saved: str | None, live: str | None) -> bool:
    """Whether a residual can only become another one with the weights at hand, which may be loaded later."""
    return saved in WITH_RESIDUAL and live in WITH_RESIDUAL and saved != live


def check_entry(optimizer: Optimizer, param: Tensor, name: str, transfer: Transfer, entry: Any) -> None:
    """ValueError unless the entry holds what the group's rule needs, in the parameter's shape, as it is said
    to be stored."""
    rule = transfer.rule
    keys = list(rule.slots.values())
    dense = [key for key in keys if coded_keys(key)[0] not in entry]
    needed = {*dense, *rule.carried, *(["step"] if rule.counts_steps else [])}
    if entry and (missing := needed - set(entry)) and not _never_stepped(entry):
        raise ValueError(
            f"the checkpoint's state of {name} has {sorted(map(str, entry))}, but "
            f"{type(optimizer).__name__} (rule {rule.name!r}) needs {sorted(missing)} too: "
            "it was saved by another optimizer or with other options"
        )
    check_once(entry, keys, f"the checkpoint's state of {name}")
    for place, (key, (form, _)) in enumerate(zip(keys, transfer.saved.slots, strict=True)):
        codes_key, headers_key = coded_keys(key)
        value, codes, headers = map(entry.get, slot_keys(key))
        if value is not None:
            _check_dense(value, param, key, name)
            if form != "dense" and not waits(entry, keys, place, transfer.saved):
                raise ValueError(
                    f"the checkpoint's {key} of {name} is numbers, not codes as state={form!r} asks for, and "
                    "there are codes in units of what those stand for: the state is damaged"
                )
        elif codes is not None and form == "dense":
            raise ValueError(
                f"the checkpoint has {codes_key} of {name}, and its group does not say state='8bit' or "
                "'4bit': codes whose meaning is lost. Save what state_dict() gives, with its param_groups"
            )
        elif codes is not None:
            code = transfer.saved.code(place)
            assert code is not None
            blocks = (block_count(storage.real(param).numel()),)
            _check(codes, torch.uint8, codes_shape(param, code), f"{codes_key} of {name}", f"state={form!r}")
            _check(headers, torch.int32, blocks, f"{headers_key} of {name}", f"state={form!r}")
            _check_headers(headers, code, f"{headers_key} of {name}")
    for key, partner in zip(keys, transfer.saved.partners, strict=True):
        if partner is not None and entry.get(coded_keys(key)[0]) is not None:
            other = keys[partner]
            if entry.get(other) is None and entry.get(coded_keys(other)[0]) is None:
                raise ValueError(
                    f"the checkpoint's {key} of {name} is in units of {other}, which it does not have: the "
                    "state is damaged"
                )
    if entry.get(RESIDUAL) is not None and (dtype := residual_dtype(param, transfer.live)) is not None:
        weights = f"weights={transfer.live.weights!r} of {param.dtype} parameters"
        _check(entry[RESIDUAL], dtype, tuple(param.shape), f"{RESIDUAL} of {name}", weights)
    if entry.get(ROUNDING) is not None:
        _check(entry[ROUNDING], torch.int64, (), f"{ROUNDING} of {name}", "the rounding key")


def _check_headers(headers: Tensor, code: Code, what: str) -> None:
    if headers.device.type == "meta":
        return
    if bool((headers < 0).any()):
        raise ValueError(
            f"the checkpoint's {what} has a negative header, and no scale is negative: the state is damaged"
        )
    if bool(((headers & 127) > code.most).any()):
        raise ValueError(
            f"the checkpoint's {what} has a header whose low 7 bits are more than {code.most}, which no "
            "range of its code is: the state is damaged, or of another code"
        )


def _check_dense(value: Any, param: Tensor, key: str, name: str) -> None:
    if not isinstance(value, Tensor):
        return
    what = f"{key} of {name}"
    if value.shape != param.shape:
        raise ValueError(
            f"the checkpoint's {what} has shape {tuple(value.shape)}, the parameter has "
            f"{tuple(param.shape)}: another model, or another order of parameters. Optimizers built "
            "from model.named_parameters() match by name"
        )
    if not (value.is_floating_point() or value.is_complex()):
        codes, headers = coded_keys(key)
        raise ValueError(
            f"the checkpoint's {what} is {dtype_name(value.dtype)}, where numbers are to be. Codes of a "
            f"block format are {codes!r}, their headers {headers!r}: where these are such codes, rename them"
        )


def _check(value: Any, dtype: torch.dtype, shape: tuple[int, ...], what: str, by: str) -> None:
    found = "missing"
    if isinstance(value, Tensor):
        if value.dtype == dtype and tuple(value.shape) == shape:
            return
        found = f"{dtype_name(value.dtype)} of shape {tuple(value.shape)}"
    elif value is not None:
        found = f"a {type(value).__name__}"
    raise ValueError(
        f"the checkpoint's {what} is {found}; {by} asks for {dtype_name(dtype)} of shape {shape}: another "
        "model, or a damaged state"
    )


def _never_stepped(entry: Mapping[str, Any]) -> bool:
    return all(value is None for value in entry.values())


def restore(
    entry: Mapping[str, Any], param: Tensor, name: str, transfer: Transfer, account: Account
) -> dict[str, Any]:
    """A parameter's state as it is to be kept: a copy, on the parameter's device, step counts on the host."""
    rule = transfer.rule
    made: dict[str, Any] = {}
    if transfer.policy != "as saved":
        made = recode_slots(param, name, transfer, entry, account)
    kept_as = [slot_keys(key) for key in rule.slots.values()]
    on_device = {RESIDUAL, *chain.from_iterable(kept_as)}
    replaced = {key for keys in kept_as if not made.keys().isdisjoint(keys) for key in keys}
    device = transfer.device(param)
    restored = {
        key: _copy(value, param, device, key in on_device)
        for key, value in entry.items()
        if key not in replaced
    }
    restored |= made
    drop_superfluous(restored, param, rule, transfer.live)
    return restored


def drops_residual(entry: Mapping[str, Any], param: Tensor, transfer: Transfer) -> bool:
    """Whether the entry holds a part of the weights that this parameter has no place for."""
    residual = entry.get(RESIDUAL)
    has_place = residual_dtype(param, transfer.live) is not None
    return isinstance(residual, Tensor) and not has_place and bool(residual.any())


def _copy(value: Any, param: Tensor, device: torch.device, on_device: bool) -> Any:
    if isinstance(value, Tensor):
        like_param = value.shape == param.shape and value.dim() > 0
        return value.detach().to(device if on_device or like_param else "cpu", copy=True)
    return deepcopy(value)
