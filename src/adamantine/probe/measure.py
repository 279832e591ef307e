"""The dry run: which hypothesis about the decay gives the very weights that the optimizer gives.

A hypothesis is something that we do by hand around the steps of the same optimizer with λ = 0: adding λθ to
its gradients (L2), shrinking the weight before the step or after it (decoupled), or only where the step
shrinks it too (cautious). The one whose path equals the optimizer's own, with λ, is what the optimizer does.
Nothing is assumed of the rule: momentum, division, trust ratios and random rounding are in both runs alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from adamantine.probe.behaviour import Behaviour, Decay
from adamantine.probe.hypotheses import HYPOTHESES, Hypothesis
from adamantine.probe.rig import STEPS, Rig, stated_decay
from adamantine.probe.sandbox import Factory
from adamantine.schedules import peak_lr

#: A path agrees where it is this close, relative to what decay did in all: modes differ by tens of per cent.
TOLERANCE = 0.01
#: Share of the elements that has to agree. Not all: a rounding that falls to the other side may turn one sign
#: (Lion) or one code of an 8-bit state.
SHARE = 0.95
#: λ is raised by these factors until its effect stands out of rounding.
FACTORS = (1.0, 1e2, 1e4, 1e6)
#: An effect stands out where it is this many times what rounding can do, so that it is known to 1 %.
CLEAR = 100.0
#: Rounding of θ per step: a few operations of half a unit each, in units of eps·|θ|.
ROUNDINGS = 8.0


class _Inconclusive(Exception):
    """The dry run cannot say; the message is the evidence."""


def measure(
    factory: Factory,
    *,
    shape: tuple[int, ...] = (8, 8),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    weight_decay: float | None = None,
) -> Behaviour:
    """Dry-run an optimizer and say what its weight decay does.

    Args:
        factory: makes the optimizer over given tensors; takes ``lr`` and ``weight_decay`` as overrides.
        shape: of the tensor that is stepped.
        dtype: of the tensor; None takes float64, and float32 where the optimizer refuses that.
        device: where the tensor lives.
        weight_decay: λ, in place of the one in the group that the factory makes.

    Never raises for an odd optimizer: its decay is ``unknown`` and `Behaviour.evidence` says why.

    >>> import torch
    >>> def factory(tensors, **overrides):
    ...     return torch.optim.AdamW(tensors, **{"lr": 0.01, "weight_decay": 0.5, **overrides})
    >>> found = measure(factory)
    >>> found.decay, found.order, round(found.shrink, 6)
    ('decoupled', 'before', 0.005)
    """
    reason = ""
    for kind in (torch.float64, torch.float32) if dtype is None else (dtype,):
        try:
            return _Dry(Rig(factory, shape, kind, device), weight_decay).behaviour()
        except Exception as error:  # whatever a foreign step raises
            text = str(error).strip().split("\n")[0]
            reason = text if isinstance(error, _Inconclusive) else f"{type(error).__name__}: {text[:200]}"
    return unknown(f"the dry run says nothing: {reason}")


def unknown(evidence: str) -> Behaviour:
    """Could not be found out, and why."""
    return Behaviour("unknown", None, None, "unclear", None, "none", evidence)


@dataclass(frozen=True)
class _Effect:
    """What λ did, over and above the same run without it."""

    weight_decay: float  # as applied, raised where the real one drowns in rounding
    still: Tensor  # path with λ = 0
    pulled: Tensor  # path with λ
    floor: Tensor  # what rounding may do to their difference, same shape

    @property
    def difference(self) -> Tensor:
        return self.pulled - self.still

    @property
    def clear(self) -> bool:
        """Whether at least a quarter of the elements shows it; L2 turns few signs in a sign rule."""
        return bool((self.difference[-1].abs() > CLEAR * self.floor[-1]).double().mean() >= 0.25)


class _Dry:
    """One measurement, from the runs to the words."""

    def __init__(self, rig: Rig, weight_decay: float | None) -> None:
        group = rig.group()
        self.lr = _number(group, "lr")
        stated = stated_decay(group) if weight_decay is None else weight_decay
        self.has_key = stated is not None
        self.weight_decay = stated or 0.0
        self.group = group
        probing = self.lr if self.lr > 0 else _some_lr(group)
        self.rig = rig if self.lr > 0 else replace(rig, lr=probing)
        self.probing_lr = probing
        self.maximize = bool(group.get("maximize", False))

    def behaviour(self) -> Behaviour:
        self.still = self._still()
        self.adaptive = self._adaptive()
        if self.weight_decay == 0.0:
            return self._without_decay()
        last: Behaviour | None = None
        for effect in self._effects():
            found = self._classify(effect)
            if found.decay != "other":
                return found
            last = last or found
        if last is not None:
            return last
        return self._ignored()

    # -- what the rule does without decay

    def _still(self) -> Tensor:
        grads = self.rig.gradients()
        still = self.rig.run(0.0 if self.has_key else None, grads)
        if not torch.isfinite(still).all():
            raise _Inconclusive("a step on ordinary gradients gives weights that are not finite")
        if torch.equal(still[-1], still[0]):
            raise _Inconclusive("steps with gradients leave the weight as it is")
        again = self.rig.run(0.0 if self.has_key else None, grads[:3])
        if not torch.equal(again, still[:4]):
            raise _Inconclusive("two runs from the same start, with the same seed, end at different weights")
        return still

    def _adaptive(self) -> bool | None:
        """g against 1000 g, by the last two steps: RAdam does not divide before step 6."""
        try:
            loud = self.rig.run(0.0 if self.has_key else None, self.rig.gradients(1e3))
        except Exception:
            return None
        small, large = (path[-3:].diff(dim=0).abs().sum(0) for path in (self.still, loud))
        moved = small > 0
        if not torch.isfinite(loud).all() or not moved.any():
            return None
        ratio = float((large[moved] / small[moved]).median())
        if ratio < 30.0:
            return True
        return False if ratio > 300.0 else None

    def _without_decay(self) -> Behaviour:
        said = "weight_decay=0" if self.has_key else "the group has no weight_decay"
        rates = self._zero_gradient_rates(0.0 if self.has_key else None)
        if rates is not None and float(rates[0]) > 1e-12:
            evidence = f"{said}, yet without a gradient a step takes {float(rates[0]):.3g} of the weight"
            return Behaviour("other", self.adaptive, float(rates[0]), "unclear", None, "probe", evidence)
        return Behaviour("none", self.adaptive, 0.0, "unclear", None, "probe", said)

    # -- what λ adds

    def _effects(self) -> Any:
        """Where the effect of λ is clear, at the real λ first."""
        self.seen = False
        self.tried: list[float] = []
        grads = self.rig.gradients()
        for factor in FACTORS:
            weight_decay = self.weight_decay * factor
            try:
                pulled = self.rig.run(weight_decay, grads)
            except Exception:  # a raised λ may be refused; the real one may not
                if factor == 1.0:
                    raise
                return
            if not torch.isfinite(pulled).all():
                return
            self.tried.append(weight_decay)
            effect = _Effect(weight_decay, self.still, pulled, self._floor(pulled))
            self.seen = self.seen or bool((effect.difference != 0).any())
            if effect.clear:
                yield effect

    def _floor(self, pulled: Tensor) -> Tensor:
        """Rounding of both paths: some roundings of θ in each step so far."""
        size = torch.maximum(pulled.abs(), self.still.abs()).cummax(0).values
        steps = torch.arange(size.shape[0], dtype=torch.float64).unsqueeze(1)
        return ROUNDINGS * self._eps() * steps * size + 1e-300

    def _eps(self) -> float:
        """Of the arithmetic, which may be coarser than the tensor: some optimizers compute in float32."""
        own = torch.finfo(self.rig.dtype).eps
        single = torch.equal(self.still[-1].float().double(), self.still[-1])
        return max(own, torch.finfo(torch.float32).eps) if single else own

    def _ignored(self) -> Behaviour:
        most = max(self.tried, default=self.weight_decay)
        if self.seen:
            raise _Inconclusive(
                f"weight_decay={self.weight_decay:g} at lr={self.probing_lr:g} changes the weights by no more "
                f"than rounding, in {self.rig.dtype}"
            )
        evidence = f"weights are the same bits with weight_decay 0, {self.weight_decay:g} and {most:g}"
        return Behaviour("ignored", self.adaptive, 0.0, "unclear", None, "probe", evidence)

    # -- which hypothesis fits

    def _classify(self, effect: _Effect) -> Behaviour:
        rates = self._rates(effect)
        fits = self._fits(effect, rates)
        if not fits:
            return self._by_gradient_scale(effect, rates)
        best = min(fits, key=lambda hypothesis: fits[hypothesis])
        l2 = HYPOTHESES["l2"]
        if l2 in fits and self._memoryless():
            # then L2 is decoupled decay, and only a rate other than lr·λ speaks for something else
            found = self._shrinking(effect, rates, HYPOTHESES["before"], "before")
            return self._l2(effect, rates) if found.decay == "decoupled" else found
        if best is l2:
            return self._l2(effect, rates)
        return self._shrinking(effect, rates, best, _order(best, fits))

    def _rates(self, effect: _Effect) -> Tensor:
        """Fraction of the weight that each step takes: without gradients, or by the first step's twins."""
        rates = self._zero_gradient_rates(effect.weight_decay)
        if rates is not None and float(rates.abs().max()) > 0:
            return rates
        ratio = -effect.difference[1] / effect.pulled[0]
        acted = effect.difference[1].abs() > effect.floor[1]
        rate = float(ratio[acted].median()) if acted.any() else 0.0
        return torch.full((STEPS,), rate, dtype=torch.float64)

    def _zero_gradient_rates(
        self, weight_decay: float | None, lrs: list[float] | None = None
    ) -> Tensor | None:
        """r of each step with zero gradients; None where the weight does not shrink as a whole."""
        zeros = self.rig.gradients(0.0, STEPS if lrs is None else len(lrs))
        try:
            path = self.rig.run(weight_decay, zeros, lrs=lrs)
        except Exception:
            return None
        ratio = 1.0 - path[1:] / path[:-1]
        middle = ratio.median(dim=1, keepdim=True).values
        near = (ratio - middle).abs() <= TOLERANCE * middle.abs() + ROUNDINGS * self._eps()
        if not torch.isfinite(ratio).all() or float(near.double().mean()) < SHARE:
            return None
        return torch.where(near, ratio, middle).mean(dim=1)  # mean: rounding averages out

    def _fits(self, effect: _Effect, rates: Tensor) -> dict[Hypothesis, float]:
        """The hypotheses that give the optimizer's weights, and how far each is off."""
        fits = {}
        sign = -1.0 if self.maximize else 1.0
        for hypothesis in HYPOTHESES.values():
            hand = hypothesis.hand(sign * effect.weight_decay, rates)
            try:
                path = self.rig.run(0.0, self.rig.gradients(), hand=hand)
            except Exception:
                continue
            error = (path - effect.pulled).abs()[1:]
            effects = torch.maximum(effect.difference.abs(), (path - effect.still).abs())[1:]
            within = error <= TOLERANCE * effects + effect.floor[1:]
            if float(within.double().mean()) >= SHARE:
                fits[hypothesis] = float(error.quantile(0.9))
        return fits

    def _memoryless(self) -> bool:
        """Whether a step is -c·g and nothing else: then L2 and decoupled decay are one and the same."""
        steps, grads = self.still.diff(dim=0), torch.stack(self.rig.gradients()).double().flatten(1)
        ratio = steps / grads
        return bool((ratio - ratio.median()).abs().max() <= TOLERANCE * ratio.median().abs())

    def _by_gradient_scale(self, effect: _Effect, rates: Tensor) -> Behaviour:
        """No hypothesis fits step for step; whether a thousandfold gradient changes the decay still tells."""
        loud = self.rig.gradients(1e3)
        still, pulled = self.rig.run(0.0, loud), self.rig.run(effect.weight_decay, loud)
        quiet_effect, loud_effect = effect.difference[-1], (pulled - still)[-1]
        clear = quiet_effect.abs() > CLEAR * effect.floor[-1]
        ratio = float((loud_effect[clear] / quiet_effect[clear]).median())
        first = -effect.difference[1] / effect.pulled[0]
        whole = (first - rates[0]).abs() <= TOLERANCE * rates[0].abs()
        if self.adaptive and 0.9 < ratio < 1.1 and float(whole.double().mean()) >= SHARE and rates[0] > 0:
            hypothesis = HYPOTHESES["before"]
            found = self._shrinking(effect, rates, hypothesis, "unclear")
            note = "; from the second step on not all of it reaches the weight at once"
            return replace(found, evidence=found.evidence + note)
        if self.adaptive and abs(ratio) < 0.05:
            evidence = (
                f"a thousandfold gradient makes the decay {ratio:.3g} times as strong: λθ is divided too"
            )
            return Behaviour("l2", True, None, "unclear", None, "probe", evidence)
        evidence = (
            "neither λθ in the gradient nor a shrinking weight gives its steps; a thousandfold gradient makes "
            f"the effect of λ={effect.weight_decay:g} {ratio:.3g} times as large"
        )
        return Behaviour("other", self.adaptive, None, "unclear", None, "probe", evidence)

    # -- and how it is said

    def _l2(self, effect: _Effect, rates: Tensor) -> Behaviour:
        evidence = "adding λθ to the gradients by hand gives the same weights"
        if self.adaptive is not False:
            return Behaviour("l2", self.adaptive, None, "unclear", None, "probe", evidence)
        shrink = _limit(rates) * self._to_real(effect, 1)
        if self._memoryless():
            evidence += ", and so does decoupled decay: without momentum the two are one"
        evidence += (
            f"; without a gradient {float(rates[0]) * self._to_real(effect, 1):.3g} of the weight per step"
        )
        return Behaviour("l2", False, shrink, "unclear", 1, "probe", evidence)

    def _shrinking(
        self,
        effect: _Effect,
        rates: Tensor,
        hypothesis: Hypothesis,
        order: Literal["before", "after", "unclear"],
    ) -> Behaviour:
        rate = float(rates[0])
        power = self._lr_power(effect, hypothesis)
        decay = self._named(rate, effect.weight_decay, power)
        if hypothesis.cautious:
            decay = "cautious" if decay == "decoupled" else "other"
        real = rate * self._to_real(effect, power)
        evidence = (
            f"{hypothesis.said} gives the same weights: {rate:.4g} of it per step at lr={self.probing_lr:g}, "
            f"λ={effect.weight_decay:g} (lr·λ = {self.probing_lr * effect.weight_decay:.4g})"
        )
        evidence += f", proportional to lr^{power}" if power is not None else ", by no power of lr"
        return Behaviour(decay, self.adaptive, real, order, power, "probe", evidence)

    def _lr_power(self, effect: _Effect, hypothesis: Hypothesis) -> int | None:
        """The power of lr by which a step shrinks the weight, as the lr falls within one run."""
        top = self.probing_lr
        lrs = [top, top / 2, top / 4]
        rates = self._zero_gradient_rates(effect.weight_decay, lrs)
        if rates is None or float(rates.abs().max()) == 0:
            rates = self._twin_rates(effect.weight_decay, lrs, cautious=hypothesis.cautious)
        if rates is None or not float(rates[0]):
            return None
        for power in (0, 1, 2, 3):
            expected = rates[0] * torch.tensor([0.5**power, 0.25**power], dtype=torch.float64)
            if bool(((rates[1:3] - expected).abs() <= TOLERANCE * expected + ROUNDINGS * self._eps()).all()):
                return power
        return None

    def _twin_rates(self, weight_decay: float, lrs: list[float], *, cautious: bool) -> Tensor | None:
        """As with zero gradients, for rules that decay only beside a step."""
        grads = self.rig.gradients(steps=len(lrs))
        pulled, still = (self.rig.run(value, grads, lrs=lrs) for value in (weight_decay, 0.0))
        ratios = -(pulled - still).diff(dim=0) / pulled[:-1]
        floor = CLEAR * self._eps()
        rates = [r[r.abs() > floor].median() if (r.abs() > floor).any() else r.new_zeros(()) for r in ratios]
        return torch.stack(rates)

    def _named(self, rate: float, weight_decay: float, power: int | None) -> Decay:
        """The mode whose formula gives this rate at this lr and changes with lr by this power."""
        lr = self.probing_lr
        expected = lr * weight_decay

        def close(a: float, b: float) -> bool:
            return abs(a - b) <= TOLERANCE * abs(b)

        if power == 0:
            return "fixed"
        if power == 1:
            if close(rate, expected):
                return "decoupled"
            if any(close(rate, expected / peak) for peak in self._peaks()):
                return "independent"
        if power == 2 and any(close(rate, expected * lr / peak) for peak in self._peaks()):
            return "corrected"
        return "other"

    def _peaks(self) -> list[float]:
        """What the optimizer may take for the highest lr of its schedule."""
        peaks = [self.probing_lr, peak_lr({**self.group, "lr": self.probing_lr})]
        peaks += [_number(self.group, key) for key in ("initial_lr", "max_lr", "peak_lr", "constructed_lr")]
        return [peak for peak in peaks if peak > 0]

    def _to_real(self, effect: _Effect, power: int | None) -> float:
        """From the λ and lr that were measured to those of the group."""
        lr = 1.0 if power in (None, 0) else (self.lr / self.probing_lr) ** power
        return self.weight_decay / effect.weight_decay * lr


def _order(best: Hypothesis, fits: dict[Hypothesis, float]) -> Literal["before", "after", "unclear"]:
    """The best one's, if it is ten times closer than the best of the other order."""
    others = [error for hypothesis, error in fits.items() if hypothesis.order not in {best.order, "unclear"}]
    if others and min(others) <= 10.0 * fits[best]:
        return "unclear"
    return best.order


def _limit(rates: Tensor) -> float:
    """Where a rate that grows geometrically, as in a momentum buffer, ends (Aitken 1926)."""
    first, second, third = (float(rate) for rate in rates[-3:])
    bend = (third - second) - (second - first)
    if abs(bend) <= 1e-6 * abs(third):
        return third
    limit = third - (third - second) ** 2 / bend
    return limit if math.isfinite(limit) and limit > 0 else third


def _some_lr(group: Mapping[str, Any]) -> float:
    """An lr to measure with where the present one is 0, as in the first step of a warm-up."""
    for key in ("peak_lr", "max_lr", "initial_lr", "constructed_lr"):
        if (value := _number(group, key)) > 0:
            return value
    return 1e-3


def _number(group: Mapping[str, Any], key: str) -> float:
    value = group.get(key)
    return 0.0 if value is None else float(value)
