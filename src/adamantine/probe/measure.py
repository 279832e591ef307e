"""The dry run: which hypothesis about the decay gives the very weights that the optimizer gives.

A hypothesis is something that we do by hand around the steps of the same optimizer with λ = 0: adding λθ to
its gradients (L2), shrinking the weight before the step or after it (decoupled), or only where the step
shrinks it too (cautious). The one whose path equals the optimizer's own, with λ, is what the optimizer does.
Nothing is assumed of the rule: momentum, division, trust ratios and random rounding are in both runs alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adamantine.probe.behaviour import Behaviour, Decay
from adamantine.probe.effect import Effect, arithmetic_eps
from adamantine.probe.hypotheses import HYPOTHESES, Hypothesis, Order
from adamantine.probe.quiet import undisturbed
from adamantine.probe.rates import Rates, first_nonzero, limit
from adamantine.probe.rig import PATIENT_STEPS, Rig, stated_decay
from adamantine.probe.sandbox import Factory
from adamantine.probe.tolerance import CLEAR, FACTORS, MUCH_CLOSER, TOLERANCE
from adamantine.schedules import peak_lr


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
            with undisturbed():  # under inference_mode, for one, tensors would be of no use to a closure
                return _DryRun(Rig(factory, shape, kind, device), weight_decay).behaviour()
        except Exception as error:  # whatever a foreign step raises
            text = str(error).strip().split("\n")[0]
            reason = text if isinstance(error, _Inconclusive) else f"{type(error).__name__}: {text[:200]}"
    return unknown(f"the dry run says nothing: {reason}")


def unknown(evidence: str) -> Behaviour:
    """Could not be found out, and why."""
    return Behaviour("unknown", None, None, "unclear", None, "none", evidence)


class _DryRun:
    """One optimizer on its rig, from the runs to the words."""

    def __init__(self, rig: Rig, weight_decay: float | None) -> None:
        self.group = rig.group()
        stated = stated_decay(self.group) if weight_decay is None else weight_decay
        self.off = None if stated is None else 0.0  # the λ of the run without decay
        self.weight_decay = stated or 0.0
        self.real_lr = _number(self.group, "lr")
        self.lr = self.real_lr if self.real_lr > 0 else _some_lr(self.group)
        self.rig = rig if self.real_lr > 0 else replace(rig, lr=self.lr)
        self.still = self._still()
        self.eps = arithmetic_eps(self.still, rig.dtype)
        self.rates = Rates(self.rig, self.eps)
        self.adaptive = self._adaptive()

    def behaviour(self) -> Behaviour:
        if self.weight_decay == 0.0:
            return self._without_decay()
        other: Behaviour | None = None
        for effect in self._effects():
            found = self._classify(effect)
            if found.decay != "other" or found.shrink is not None:
                return found
            other = other or found  # nothing fitted: perhaps rounding, less of it with a higher λ
        return other or self._ignored()

    # The rule without decay.

    def _still(self) -> Tensor:
        grads = self.rig.gradients()
        still = self.rig.run(self.off, grads)
        if torch.equal(still[-1], still[0]):
            self.rig = replace(self.rig, steps=PATIENT_STEPS)
            grads = self.rig.gradients()
            still = self.rig.run(self.off, grads)
        if not torch.isfinite(still).all():
            raise _Inconclusive("a step on ordinary gradients gives weights that are not finite")
        if torch.equal(still[-1], still[0]):
            raise _Inconclusive("steps with gradients leave the weight as it is")
        if not torch.equal(self.rig.run(self.off, grads[:3]), still[:4]):
            raise _Inconclusive("two runs from the same start, with the same seed, end at different weights")
        return still

    def _adaptive(self) -> bool | None:
        """g against 1000 g, by the last two steps: RAdam does not divide before step 6."""
        try:
            loud = self.rig.run(self.off, self.rig.gradients(1e3))
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
        said = "the group has no weight_decay" if self.off is None else "weight_decay=0"
        rates = self.rates.without_gradient(self.off)
        if rates is None or float(rates[0]) <= CLEAR * self.eps:
            return self._found("none", 0.0, said)
        rate = float(rates[0])
        return self._found(
            "other", rate, f"{said}, yet without a gradient a step takes {rate:.3g} of the weight"
        )

    # What λ adds.

    def _effects(self) -> Iterator[Effect]:
        """Where the effect of λ is clear, at the real λ first."""
        self.seen, self.highest = False, 0.0
        for factor in FACTORS:
            weight_decay = self.weight_decay * factor
            try:
                pulled = self.rig.run(weight_decay, self.rig.gradients())
            except Exception:  # a raised λ may be refused; the real one may not
                if factor == 1.0:
                    raise
                return
            if not torch.isfinite(pulled).all():
                return
            effect = Effect(weight_decay, self.still, pulled, self.eps)
            if factor > 1.0 and abs(effect.first_rate()) > 0.5:  # a decay this strong hides all else
                return
            self.seen, self.highest = self.seen or bool(effect.difference.any()), weight_decay
            if effect.clear:
                yield effect

    def _ignored(self) -> Behaviour:
        if self.seen or not self.highest:
            raise _Inconclusive(
                f"weight_decay={self.weight_decay:g} at lr={self.lr:g} moves the weights by no more than "
                f"rounding does in {self.rig.dtype}"
            )
        evidence = (
            f"weights are the same bits with weight_decay 0, {self.weight_decay:g} and {self.highest:g}"
        )
        drift = self.rates.without_gradient(self.off)
        if drift is None or float(drift[0]) <= CLEAR * self.eps:
            return self._found("ignored", 0.0, evidence)
        evidence += f"; without a gradient a step takes {float(drift[0]):.3g} of the weight all the same"
        return self._found("ignored", float(drift[0]), evidence)

    # Which hypothesis fits.

    def _classify(self, effect: Effect) -> Behaviour:
        rates = self.rates.of_decay(effect.weight_decay)
        whole = rates is not None and bool(rates.any())
        first = torch.full((self.rig.steps,), effect.first_rate(), dtype=torch.float64)
        # by the first step where zero gradients tell nothing, or (AdamP) something else than real ones do
        for used in (rates, first) if rates is not None and whole else (first,):
            if fits := self._fits(effect, used):
                break
        else:
            return self._by_gradient_size(effect, first if rates is None else rates)
        best = min(fits, key=lambda name: fits[name])
        if "l2" in fits and self._memoryless():
            # then L2 is decoupled decay, and only a rate other than lr·λ speaks for something else
            found = self._shrinking(effect, used, HYPOTHESES["before"], "before")
            return self._l2(effect, used if whole else None) if found.decay == "decoupled" else found
        if best == "l2":
            return self._l2(effect, used if whole else None)
        return self._shrinking(effect, used, HYPOTHESES[best], _order(best, fits))

    def _fits(self, effect: Effect, rates: Tensor) -> dict[str, float]:
        """The hypotheses that give the optimizer's weights, and how far each is off."""
        penalty = -effect.weight_decay if self.group.get("maximize") else effect.weight_decay
        fits = {}
        for name, hypothesis in HYPOTHESES.items():
            try:
                path = self.rig.run(self.off, self.rig.gradients(), hand=hypothesis.hand(penalty, rates))
            except Exception:  # a hand that goes astray may break a foreign step
                continue
            if (misfit := effect.misfit(path)) is not None:
                fits[name] = misfit
        return fits

    def _memoryless(self) -> bool:
        """Whether a step is -c·g and nothing else."""
        ratio = self.still.diff(dim=0) / torch.stack(self.rig.gradients()).double().flatten(1)
        return bool((ratio - ratio.median()).abs().max() <= TOLERANCE * ratio.median().abs())

    def _by_gradient_size(self, effect: Effect, rates: Tensor) -> Behaviour:
        """Nothing fits step for step; whether a thousandfold gradient changes the decay still tells."""
        loud = self.rig.gradients(1e3)
        loud_effect = (self.rig.run(effect.weight_decay, loud) - self.rig.run(self.off, loud))[-1]
        shown = effect.difference[-1].abs() > CLEAR * effect.floor[-1]
        ratio = float((loud_effect[shown] / effect.difference[-1][shown]).median())
        if self.adaptive and abs(ratio) < 0.05:
            evidence = (
                f"a thousandfold gradient makes the decay {ratio:.3g} times as strong: λθ is divided too"
            )
            return self._found("l2", None, evidence)
        rate, end = float(rates[first_nonzero(rates)]), limit(rates)
        if self.adaptive and 0.9 < ratio < 1.1 and rate > 0 and effect.takes_first(rate):
            if end > 1.1 * rate:
                rate, end = (self._at_real(value, effect, 1) for value in (rate, end))
                evidence = (
                    f"λθ enters the momentum undivided: {rate:.3g} of the weight at first, later {end:.3g}"
                )
                return self._found("other", end, evidence)
            found = self._shrinking(effect, rates, HYPOTHESES["before"], "unclear")
            later = "; in the first step, that is: later on not all of it reaches the weight at once"
            return replace(found, evidence=found.evidence + later)
        if effect.takes_constant():
            evidence = "the first step takes the same amount off every weight, whatever its size and sign"
            return self._found("other", None, evidence)
        evidence = (
            "neither λθ in the gradient nor a shrinking weight gives its steps; a thousandfold gradient "
            f"makes the effect of λ={effect.weight_decay:g} {ratio:.3g} times as large"
        )
        return self._found("other", None, evidence)

    # How it is said.

    def _l2(self, effect: Effect, rates: Tensor | None) -> Behaviour:
        """``rates`` None: without a gradient the weight does not shrink as a whole, so L2 is divided."""
        evidence = "adding λθ to the gradients by hand gives the same weights"
        if self.adaptive is False and rates is None:
            evidence += "; λθ is divided where gradients are small, and not where they are large"
            return replace(self._found("l2", None, evidence), adaptive=None)
        if self.adaptive is not False or rates is None:
            return self._found("l2", None, evidence)
        if self._memoryless():
            evidence += ", and so does decoupled decay: without momentum the two are one"
        first, last = (self._at_real(rate, effect, 1) for rate in (float(rates[0]), limit(rates)))
        evidence += f"; without a gradient a step takes {first:.3g} of the weight"
        if last <= (1.0 + TOLERANCE) * first:
            last = first
        else:
            evidence += f", {last:.3g} once momentum has built up"
        drift = self.rates.without_gradient(self.off)
        return self._found("l2", last + (0.0 if drift is None else float(drift[0])), evidence, power=1)

    def _shrinking(self, effect: Effect, rates: Tensor, hypothesis: Hypothesis, order: Order) -> Behaviour:
        rate = float(rates[first_nonzero(rates)])
        if float(rates.abs().max()) > 1.1 * rate:
            first, last = (self._at_real(value, effect, 1) for value in (rate, limit(rates)))
            evidence = (
                f"λθ enters the momentum undivided: {first:.3g} of the weight at first, later {last:.3g}"
            )
            return self._found("other", last, evidence)
        power = self.rates.power(effect.weight_decay, self.lr)
        decay = self._named(rate, effect.weight_decay, power)
        if hypothesis.cautious:
            decay = "cautious" if decay == "decoupled" else "other"
        evidence = (
            f"{hypothesis.said} gives the same weights: by {rate:.4g} per step at lr={self.lr:g}, "
            f"λ={effect.weight_decay:g}, where lr·λ is {self.lr * effect.weight_decay:.4g}; "
        )
        evidence += "by no power of lr" if power is None else f"proportional to lr^{power}"
        if abs(float(rates[-1]) - rate) > TOLERANCE * rate:
            evidence += f"; by {float(rates[-1]):.4g} in step {len(rates)}"
        return self._found(decay, self._at_real(rate, effect, power), evidence, order, power)

    def _found(
        self,
        decay: Decay,
        shrink: float | None,
        evidence: str,
        order: Order = "unclear",
        power: int | None = None,
    ) -> Behaviour:
        return Behaviour(decay, self.adaptive, shrink, order, power, "probe", evidence)

    def _named(self, rate: float, weight_decay: float, power: int | None) -> Decay:
        """The mode whose formula gives this rate at this lr and follows lr by this power."""
        decoupled = self.lr * weight_decay
        stated = {key: value for key, value in self.group.items() if value is not None}
        peaks = [self.lr, peak_lr({**stated, "lr": self.lr})]
        peaks += [_number(self.group, key) for key in ("initial_lr", "max_lr", "peak_lr", "constructed_lr")]
        expected: dict[Decay, list[float]] = {
            "fixed": [rate] if power == 0 else [],
            # D-Adaptation and Prodigy multiply lr by their own estimate, which they keep as "d"
            "decoupled": [decoupled, decoupled * _number(self.group, "d")] if power == 1 else [],
            "independent": [decoupled / peak for peak in peaks if peak > 0] if power == 1 else [],
            "corrected": [decoupled * self.lr / peak for peak in peaks if peak > 0] if power == 2 else [],
        }
        for decay, values in expected.items():
            if any(abs(rate - value) <= TOLERANCE * value for value in values):
                return decay
        return "other"

    def _at_real(self, rate: float, effect: Effect, power: int | None) -> float:
        """From the λ and lr that were measured to those of the group."""
        return rate * self.weight_decay / effect.weight_decay * (self.real_lr / self.lr) ** (power or 0)


def _order(best: str, fits: Mapping[str, float]) -> Order:
    """The best one's, unless one of the other order is nearly as close."""
    order = HYPOTHESES[best].order
    rivals = [misfit for name, misfit in fits.items() if HYPOTHESES[name].order not in {order, "unclear"}]
    return "unclear" if rivals and min(rivals) <= MUCH_CLOSER * fits[best] else order


def _some_lr(group: Mapping[str, Any]) -> float:
    """An lr to measure with where the present one is 0, as in the first step of a warm-up."""
    for key in ("peak_lr", "max_lr", "initial_lr", "constructed_lr"):
        if (value := _number(group, key)) > 0:
            return value
    return 1e-3


def _number(group: Mapping[str, Any], key: str) -> float:
    value = group.get(key)
    return 0.0 if value is None else float(value)
