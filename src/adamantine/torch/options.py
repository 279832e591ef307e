"""What a constructor and a group may be given beside the mathematics: guards, engines, torch's flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from torch import Tensor

OnNonfinite = Literal["ignore", "skip", "raise"]
EngineName = Literal["auto", "native", "generic"]
StateFormat = Literal["float32", "bfloat16", "float16", "float64", "8bit", "4bit"]
StateOption = StateFormat | Mapping[str, StateFormat] | None
WeightsFormat = Literal["nearest", "stochastic", "kahan", "split8", "split16"]


def check_choice(name: str, value: Any, choices: Any) -> None:
    """ValueError unless ``value`` is one of a Literal's."""
    if value not in get_args(choices):
        raise ValueError(f"Invalid {name}: {value!r}; choose one of {', '.join(get_args(choices))}")


def settle_mode(options: dict[str, Any]) -> None:
    """``decay`` from torch's flag where only that is given."""
    flag, mode = options.get("decoupled_weight_decay"), options.get("decay")
    if mode is None and flag is not None:
        options["decay"] = "decoupled" if flag else "l2"
    elif flag and mode != "decoupled":
        raise ValueError(f"decoupled_weight_decay=True contradicts decay={mode!r}; give decay alone")


def check_formats(options: dict[str, Any]) -> None:
    """``state`` and ``weights`` of a constructor or a group, each by itself."""
    state = options["state"]
    if isinstance(state, Mapping):
        options["state"] = state = dict(state)
        for key, asked in state.items():
            check_choice(f"state[{key!r}]", asked, StateFormat)
    elif state is not None:
        check_choice("state", state, StateFormat)
    weights = options["weights"]
    if weights is not None:
        check_choice("weights", weights, WeightsFormat)
    blocks = {"8bit", "4bit"} & set(state.values() if isinstance(state, dict) else [state])
    if options["differentiable"] and (blocks or weights not in {None, "nearest"}):
        raise ValueError(
            "what is stored in blocks or rounded with a residual has no gradient; differentiable=True needs "
            "state=None or a dtype, and weights='nearest'"
        )


def check_seed(seed: Any) -> int:
    """The seed, if it is a whole number."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"Invalid seed: {seed!r}; give a whole number, as 0")
    return seed


def check_offload(offload: Any) -> bool:
    """The flag, if it is one."""
    if not isinstance(offload, bool):
        raise ValueError(f"Invalid offload: {offload!r}; give True or False")
    return offload


def check_state_keys(state: Any, keys: list[str], owner: str) -> None:
    """ValueError for a format of a slot that the rule does not have."""
    if isinstance(state, Mapping) and (unknown := set(state) - set(keys)):
        raise ValueError(
            f"Invalid state: {owner} has no {', '.join(sorted(map(repr, unknown)))}; "
            f"it keeps {', '.join(map(repr, keys)) or 'nothing'}"
        )


def check_flags(options: dict[str, Any], engine: EngineName) -> None:
    """torch's execution flags, where they exclude each other or what is asked beside them."""
    if options["differentiable"]:
        if engine == "native":
            raise ValueError(
                "engine='native' has no graph for gradients to flow through; differentiable=True needs "
                "engine='generic' or 'auto'"
            )
        if options["foreach"]:
            raise RuntimeError("`foreach` and `differentiable` cannot be `True` together.")
        if options.get("fused"):
            raise RuntimeError("`fused` does not support `differentiable`")
    if options.get("fused") and options["foreach"]:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def flags_without_effect(options: dict[str, Any], has_kernel: bool) -> dict[str, str]:
    """torch's flags that are set and change nothing, each with the reason; ``fused`` asks for the kernel."""
    reasons = {
        "fused": "no fused kernel for these parameters; the generic engine gives the same numbers",
        "capturable": "step() reads its scalars on the host and cannot be captured in a CUDA graph; "
        "outside of one it gives the same numbers",
    }
    return {
        flag: reason
        for flag, reason in reasons.items()
        if options.get(flag) and not (flag == "fused" and has_kernel)
    }


def check_tensors(options: dict[str, Any], foreach_refuses_tensors: bool) -> None:
    """Hyperparameters given as tensors, in torch's words."""
    betas = options.get("betas", ())
    betas = betas if isinstance(betas, tuple | list) else ()
    if len({isinstance(beta, Tensor) for beta in betas}) > 1:
        raise ValueError(f"betas must be either both floats or both Tensors, got {betas}")
    host_only = foreach_refuses_tensors and options["foreach"] and not options["capturable"]
    named = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
    named |= {f"betas[{index}]": beta for index, beta in enumerate(betas)}
    for name, value in named.items():
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"Tensor {name} must be 1-element, got shape {tuple(value.shape)}")
            if host_only and name != "weight_decay":
                raise ValueError(f"{name} as a Tensor is not supported for capturable=False and foreach=True")
