"""The public optimizers: explicit signatures, torch's names, order and defaults, and ``decay=``."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamantine.rules import Rule
from adamantine.rules.adagrad import ADAGRAD
from adamantine.rules.adam import ADAM
from adamantine.rules.adam_atan2 import ADAM_ATAN2
from adamantine.rules.adamax import ADAMAX
from adamantine.rules.amsgrad import AMSGRAD
from adamantine.rules.decay import Mode, check_mode
from adamantine.rules.lion import LION
from adamantine.rules.nadam import NADAM
from adamantine.rules.radam import RADAM
from adamantine.rules.rmsprop import (
    RMSPROP,
    RMSPROP_CENTERED,
    RMSPROP_CENTERED_MOMENTUM,
    RMSPROP_MOMENTUM,
)
from adamantine.rules.sgd import HEAVY_BALL, NESTEROV
from adamantine.rules.sgd import SGD as PLAIN_SGD
from adamantine.torch.optimizer import Optimizer
from adamantine.torch.options import EngineName, OnNonfinite, StateOption, WeightsFormat

Number = float | Tensor


def _signature(names: dict[str, Any]) -> dict[str, Any]:
    """What an ``__init__`` was called with, from its ``locals()``: the signature is the list of defaults."""
    return {name: value for name, value in names.items() if name not in {"self", "params", "__class__"}}


class SGD(Optimizer):
    r"""Gradient descent, heavy ball (Polyak 1964) or Nesterov; L2 by default, as torch.optim.SGD.

    θ ← shrink·θ - η u, with u = g, μ m + (1-τ) g, or g + μ m (`adamantine.rules.sgd`).

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([0.5])
    >>> SGD([w], lr=0.1).step()
    >>> w.item() == torch.tensor(0.95).item()
    True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "l2",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        if group["momentum"] == 0:
            return PLAIN_SGD
        return NESTEROV if group["nesterov"] else HEAVY_BALL


class SGDW(Optimizer):
    r"""SGD with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 1).

    Without momentum the same as SGD with L2; with momentum, the decay no longer enters the buffer.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([0.0])
    >>> SGDW([w], lr=0.5, momentum=0.9, weight_decay=0.5).step()
    >>> w.item()
    0.75
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "decoupled",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    rule = SGD.rule


class Adagrad(Optimizer):
    r"""AdaGrad (Duchi, Hazan & Singer 2011): u = g/(√Σg² + ε); L2 by default, as torch.optim.Adagrad.

    State is made at construction, as in torch, so that it can be shared between processes.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([2.0])
    >>> Adagrad([w], lr=0.5).step()
    >>> w.item()
    0.5
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "l2",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADAGRAD

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self._fill_states(group["params"], group, ADAGRAD)

    def share_memory(self) -> None:
        """Put the sums into shared memory, for training in several processes."""
        for group in self.param_groups:
            for p in group["params"]:
                for value in self.state[p].values():  # the sum, and what its format keeps beside it
                    value.share_memory_()


class RMSprop(Optimizer):
    r"""RMSprop (Tieleman & Hinton 2012), centered and with momentum on demand; L2 by default, as in torch.

    ``centered=True`` divides by √(v - a²). Codes can make that 0, so ``state="8bit"`` or ``"4bit"`` of v or a
    is an error; ``{"momentum_buffer": "8bit"}`` is none.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([2.0])
    >>> RMSprop([w], lr=0.01).step()  # u = g/√(0.01 g²) = 10
    >>> round(w.item(), 4)
    0.9
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        decay: Mode = "l2",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        if group["centered"]:
            return RMSPROP_CENTERED_MOMENTUM if group["momentum"] else RMSPROP_CENTERED
        return RMSPROP_MOMENTUM if group["momentum"] else RMSPROP


class Adam(Optimizer):
    r"""Adam (Kingma & Ba 2015) or AMSGrad (Reddi et al. 2018); ``weight_decay`` is L2, as in torch.

    L2 inside Adam is divided by √v̂ and decays every weight differently: `AdamW`, or ``decay="decoupled"``
    here, is what is usually wanted.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([123.0])
    >>> Adam([w], lr=0.125).step()  # |u| = 1 in the first step, whatever the gradient
    >>> round(w.item(), 6)
    0.875
    """

    foreach_refuses_tensors: ClassVar[bool] = True

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        decay: Mode | None = None,
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return AMSGRAD if group["amsgrad"] else ADAM


class AdamW(Optimizer):
    r"""AdamW (Loshchilov & Hutter 2019): θ ← (1 - ηλ) θ - η m̂/(√v̂ + ε), as torch.optim.AdamW.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([0.0])
    >>> AdamW([w], lr=0.5, weight_decay=0.5).step()  # no gradient: the decay alone, λ·lr = 25 %
    >>> w.item()
    0.75
    """

    foreign_decay: ClassVar[str] = "decoupled"
    foreach_refuses_tensors: ClassVar[bool] = True

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "decoupled",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        own = _signature(locals())
        check_mode(decay)  # before the flag below says something else in its place
        # torch's AdamW writes this flag into its groups, and reads it from checkpoints.
        super().__init__(params, {**own, "decoupled_weight_decay": decay == "decoupled"})

    def rule(self, group: dict[str, Any]) -> Rule:
        return AMSGRAD if group["amsgrad"] else ADAM


class Adamax(Optimizer):
    r"""Adamax (Kingma & Ba 2015, Algorithm 2): Adam in the infinity norm; L2 by default, as in torch.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([123.0])
    >>> Adamax([w], lr=0.125).step()
    >>> round(w.item(), 6)
    0.875
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        decay: Mode = "l2",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADAMAX


class NAdam(Optimizer):
    r"""NAdam (Dozat 2016): Adam with Nesterov's momentum; L2 by default, as torch.optim.NAdam.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([123.0])
    >>> NAdam([w], lr=0.125).step()
    >>> w.item() < 1.0
    True
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        decay: Mode | None = None,
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return NADAM


class RAdam(Optimizer):
    r"""RAdam (Liu et al. 2020): Adam that waits for its variance estimate; L2 by default, as in torch.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([0.5])
    >>> RAdam([w], lr=0.5).step()  # the first steps are momentum SGD
    >>> round(w.item(), 6)
    0.75
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        decay: Mode | None = None,
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return RADAM


class Lion(Optimizer):
    r"""Lion (Chen et al. 2023): the sign of an interpolated momentum, with decoupled decay.

    One slot instead of Adam's two. lr wants 3-10 times less than AdamW's, weight_decay as much more.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([123.0])
    >>> Lion([w], lr=0.125).step()
    >>> w.item()
    0.875
    """

    foreign_decay: ClassVar[str] = "decoupled"

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "decoupled",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return LION


class AdamAtan2(Optimizer):
    r"""Adam-atan2 (Everett et al. 2024): AdamW without ε, exactly invariant to the scale of the loss.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> w.grad = torch.tensor([1e-12])
    >>> AdamAtan2([w], lr=0.125, weight_decay=0).step()  # atan2(m̂, √v̂) = π/4, the gradient small or large
    >>> round(w.item(), 4)
    0.9018
    """

    foreign_decay: ClassVar[str] = "decoupled"

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decay: Mode = "decoupled",
        peak_lr: float | None = None,
        state: StateOption = None,
        weights: WeightsFormat | None = None,
        max_norm: float | None = None,
        on_nonfinite: OnNonfinite = "ignore",
        engine: EngineName = "auto",
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        super().__init__(params, _signature(locals()))

    def rule(self, group: dict[str, Any]) -> Rule:
        return ADAM_ATAN2


_COMMON = """
    Args:
        params: parameters, ``(name, parameter)`` pairs, or groups of them (`adamantine.param_groups`), of any
            shape; real or complex, float64, float32, bfloat16 or float16.
        lr: learning rate η, in the unit of θ for the rules that divide by the gradient's size. A schedule may
            move it.
        weight_decay: λ, in the unit of the decay mode.
        decay: how λ acts: ``"none"``, ``"l2"``, ``"decoupled"``, ``"independent"``, ``"corrected"`` or
            ``"cautious"`` (`adamantine.rules.decay` has formulas, units and sources). Also per group.
        peak_lr: η_max, the highest lr of the schedule, for ``independent`` and ``corrected``; None tracks it.
            Also per group.
        max_norm: clip the global gradient norm, taken in double precision, inside the step; None does not.
        on_nonfinite: what a step with an infinite or NaN gradient does: ``"ignore"`` it, ``"skip"`` (nothing
            moves; ``skipped_steps`` counts) or ``"raise"`` FloatingPointError, naming the parameters.
        state: how the rule keeps its averages: a dtype, ``"float32"``, ``"bfloat16"``, ``"float16"`` or
            ``"float64"``; ``"8bit"`` or ``"4bit"``, codes in blocks of 128 with a scale (2.06 and 1.06 bytes
            per parameter for Adam; docs/quantization.md); a mapping from key to one of these, as
            ``{"exp_avg": "4bit", "exp_avg_sq": "8bit"}``; None: the parameter's dtype. Also per group.
        weights: how bfloat16 and float16 parameters are kept: rounded to ``"nearest"`` (None), where steps
            below half a unit are lost; ``"stochastic"``, so that they count on average; ``"kahan"``, with
            what was lost beside them in their own dtype; ``"split8"`` or ``"split16"``, bfloat16 only, with
            the rest of a float32 master weight in 8 or 16 bits. Parameters of 32 or 64 bits stay as they
            are. Also per group.
        engine: ``"native"`` is the compiled kernel for host memory, ``"generic"`` torch operations on any
            device, with the same bits on a CPU; ``"auto"`` takes the kernel wherever it can. `explain` tells.
        seed: of the rounding of weights and averages, whose state is in the checkpoint. Processes that train
            copies of one model round alike only with the same seed, and need to.
        offload: keep the state on the host while the parameters are on an accelerator.
        foreach: for the generic engine: True updates many tensors in one call, False each by itself, None
            chooses by size and device.
        maximize, differentiable, and what else torch's class takes: as there. ``fused`` asks for what the
            native engine does anyway; without it, and always for ``capturable``, a warning says that the flag
            changes nothing.

    Raises:
        ValueError: a hyperparameter is out of range; the message names it, its value and the remedy.
    """

#: Every optimizer by class name.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__: cls
    for cls in (SGD, SGDW, Adagrad, RMSprop, Adam, AdamW, Adamax, NAdam, RAdam, Lion, AdamAtan2)
}

for _cls in OPTIMIZERS.values():  # said once, shown by help() on each
    _cls.__doc__ = f"{(_cls.__doc__ or '').rstrip()}\n{_COMMON}"
