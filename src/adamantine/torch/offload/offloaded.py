"""Offload: the model on an accelerator; weights, state and the step in host memory.

    backward     each gradient, as soon as it is complete, is copied to the host while backward goes on
    step()       the host waits for the gradients and steps its mirrors of the weights, by the same engines
    after it     new weights are copied back; the host goes on, the next forward pass waits for them

The step is that of an optimizer of the same class over the mirrors, the *twin*. Its groups are made anew from
the optimizer's before each use and its state dictionaries are the optimizer's own, so schedulers, checkpoints
and whoever else reads or writes an optimizer need not know of it. docs/offload.md has the whole.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from adamantine.torch.engines.explain import Explanation, explain
from adamantine.torch.offload.lane import Lane, lane_to
from adamantine.torch.offload.mirror import Mirror
from adamantine.torch.offload.seal import changed
from adamantine.torch.offload.twin import arrange, hand_back

if TYPE_CHECKING:
    from adamantine.torch.optimizer import Optimizer

AnyOptimizer = TypeVar("AnyOptimizer", bound="Optimizer")


class Offloaded:
    """The host's part of one optimizer. Methods are given that optimizer: there is no cycle to collect."""

    def __init__(self) -> None:
        self._mirrors: dict[Tensor, Mirror] = {}
        self._lanes: dict[torch.device, Lane] = {}
        self._twin: Optimizer | None = None
        self._releases = False

    def mirror(self, p: Tensor) -> Tensor:
        """The host's copy of a parameter: it is what the twin calls a parameter."""
        if p not in self._mirrors:  # a copy of an optimizer has none before its first step
            self._mirrors[p] = Mirror(p, self._lane(p.device))
        return self._mirrors[p].weights

    def nbytes(self) -> tuple[int, int]:
        """Host memory beside the state: of the weights' mirrors, and of the gradients'."""
        mirrors = self._mirrors.values()
        return sum(m.weights.nbytes for m in mirrors), sum(m.gradient.nbytes for m in mirrors)

    def adopt(self, optimizer: Optimizer, group: dict[str, Any]) -> None:
        """Take in a new group.

        Raises:
            ValueError: a parameter of which no host copy can be kept, or ``differentiable=True``.
        """
        if optimizer.defaults["differentiable"]:
            raise ValueError(
                "offload=True steps on the host, and no gradient flows through that; "
                "differentiable=True needs offload=False"
            )
        for p in group["params"]:
            _check(p)
        settle(group)
        self._watch(optimizer)

    def _watch(self, optimizer: Optimizer) -> None:
        """A mirror for each of the parameters as they are by now, and no others; hooks where they train."""
        before, self._mirrors = self._mirrors, {}
        for p in optimizer._parameters():
            mirror = before.get(p)
            if mirror is None or not mirror.fits(p):
                if mirror is not None and mirror.gradient.is_held:
                    raise RuntimeError(
                        f"a parameter of shape {tuple(p.shape)} has another dtype, shape or device than its "
                        "released gradient; change the model after optimizer.step() or optimizer.zero_grad()"
                    )
                mirror = Mirror(p, self._lane(p.device))
            self._mirrors[p] = mirror
            mirror.gradient.releases = self._releases
            if p.requires_grad and p.is_leaf and not mirror.is_hooked:
                mirror.is_hooked = True
                _hook(p, mirror)

    def step(self, optimizer: Optimizer) -> None:
        """The optimizer's step, its closure having run."""
        chosen = [p for p in optimizer._parameters() if p.grad is not None or self._holds(p)]
        with self.on_host(optimizer, chosen) as twin:
            twin._step()
        self.forget_gradients()

    def release(self, on: bool) -> None:
        """Whether the device's gradients are freed as soon as they are under way to the host."""
        self._releases = on
        for p, mirror in self._mirrors.items():
            mirror.gradient.releases = on
            if not on:
                mirror.gradient.give_back(p)

    @contextmanager
    def on_host(
        self, optimizer: AnyOptimizer, params: Iterable[Tensor] | None = None
    ) -> Iterator[AnyOptimizer]:
        """An optimizer of the same class, all of whose tensors are in host memory and up to date.

        Args:
            optimizer: the one that offloads.
            params: those to bring, with their gradients; all by default. The others have no gradient there.

        Yields:
            The twin. What has become of its weights, state and groups is the optimizer's afterwards.
        """
        twin = self._arranged(optimizer)
        chosen = list(self._mirrors if params is None else params)
        with torch.no_grad():
            self._bring(chosen)
        versions = {p: self._mirrors[p].weights._version for p in chosen}
        try:
            yield twin
        finally:
            with torch.no_grad():
                for p, version in versions.items():
                    if self._mirrors[p].weights._version != version:
                        self._mirrors[p].send(p)
            hand_back(optimizer, twin, {self._mirrors[p].weights: p for p in self._mirrors})

    def explain(self, optimizer: Optimizer) -> Explanation:
        """Where the twin's parameters are stepped, and that they are on the host."""
        found = explain(self._arranged(optimizer))
        return replace(
            found,
            placements=tuple(
                replace(each, reason=f"on the host, θ on {p.device}: {each.reason}")
                for p, each in zip(self._mirrors, found.placements, strict=True)
            ),
        )

    def forget_gradients(self) -> None:
        """Those that only the host has are dropped, and none of the device's is kept."""
        for mirror in self._mirrors.values():
            mirror.gradient.forget()

    def _holds(self, p: Tensor) -> bool:
        mirror = self._mirrors.get(p)
        return mirror is not None and mirror.gradient.is_held

    def _lane(self, device: torch.device) -> Lane:
        if device not in self._lanes:
            self._lanes[device] = lane_to(device)
        return self._lanes[device]

    def _bring(self, params: list[Tensor]) -> None:
        mirrors = {p: self._mirrors[p] for p in params}
        for p in self._mirrors.keys() - mirrors.keys():
            self._mirrors[p].weights.grad = None
        altered = changed([seal for mirror in mirrors.values() for seal in mirror.seals])
        for p, mirror in mirrors.items():
            mirror.bring(p, altered)
        for mirror in mirrors.values():
            mirror.arrive()

    def _arranged(self, optimizer: AnyOptimizer) -> AnyOptimizer:
        """The twin as it is to be now."""
        self._watch(optimizer)
        weights = {p: mirror.weights for p, mirror in self._mirrors.items()}
        twin: AnyOptimizer = arrange(optimizer, self._twin, weights)
        self._twin = twin
        return twin


def settle(group: dict[str, Any]) -> None:
    """Under offload, a new group of half precision that says nothing of storage has mixed precision.

    ``weights=None`` becomes ``"split16"`` with bfloat16 parameters: the mirror and its residual are a float32
    master weight, bit for bit. A group with float16 ones, for which no such parts exist, has ``"kahan"``.
    ``state=None`` becomes ``"float32"``, unless there are float64 parameters, whose state that would shorten.
    """
    dtypes = {p.dtype for p in group["params"]}
    half = dtypes & {torch.bfloat16, torch.float16}
    if not half:
        return
    if group["weights"] is None:
        group["weights"] = "kahan" if torch.float16 in half else "split16"
    if group["state"] is None and not dtypes & {torch.float64, torch.complex128}:
        group["state"] = "float32"


def _check(p: Tensor) -> None:
    if type(p) not in {Tensor, torch.nn.Parameter}:
        raise ValueError(
            f"offload=True keeps whole tensors on the host, and a {type(p).__name__} is none. Under FSDP, "
            "fully_shard(..., offload_policy=CPUOffloadPolicy()) keeps the shards there; the optimizer then "
            "steps them on the host with offload=False"
        )
    if p.layout is not torch.strided or p.device.type == "meta":
        what = "has no memory yet (meta)" if p.device.type == "meta" else f"is {p.layout}"
        raise ValueError(f"offload=True copies dense parameters; one of shape {tuple(p.shape)} {what}")


def _hook(p: Tensor, mirror: Mirror) -> None:
    """Copy each gradient as soon as backward has completed it, for as long as there is the mirror."""
    alive = weakref.ref(mirror)

    def copy(p: Tensor) -> None:
        mirror = alive()
        if mirror is None:
            return
        if p.grad is None and mirror.gradient.releases:
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(p.shape)} is gone before it was copied: "
                "another optimizer or hook has released it. remove() one of them"
            )
        if mirror.fits(p) and not is_reduced_later():
            mirror.gradient.fetch(p)

    handle = p.register_post_accumulate_grad_hook(copy)  # type: ignore[no-untyped-call]
    weakref.finalize(mirror, handle.remove).atexit = False


def is_reduced_later() -> bool:
    """Whether other processes' gradients are yet to be added when backward has this one's."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
