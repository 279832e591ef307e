"""The dry run: which hypothesis about the decay gives the very weights that the optimizer gives.

A hypothesis is something that we do by hand around the steps of the same optimizer with λ = 0: adding λθ to
its gradients (L2), shrinking the weight before the step or after it (decoupled), or only where the step
shrinks it too (cautious). The one whose path equals the optimizer's own, with λ, is what the optimizer does.
Nothing is assumed of the rule: momentum, division, trust ratios and random rounding are in both runs alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from adamantine.probe.behaviour import Behaviour
from adamantine.probe.effect import Effect, arithmetic_eps
from adamantine.probe.hypotheses import HYPOTHESES, best_of
from adamantine.probe.rates import Rates
from adamantine.probe.rig import LAZY_STEPS, PATIENT_STEPS, Rig
from adamantine.probe.setting import Setting
from adamantine.probe.tolerance import FACTORS, SURELY_SEEN, TOLERANCE
from adamantine.probe.verdict import Verdict, by_one_number


class Inconclusive(Exception):
    """The dry run cannot say; the message is the evidence."""


class DryRun:
    """One optimizer on its rig."""

    def __init__(self, rig: Rig, weight_decay: float | None) -> None:
        self.setting = Setting.of(rig, weight_decay)
        self.rig = replace(rig, lr=self.setting.override)
        self.still = self._still()
        self.eps = arithmetic_eps(self.still, rig.dtype)
        self.rates = Rates(self.rig, self.eps)
        self.verdict = Verdict(self.setting, self.rates, self._adaptive())

    def behaviour(self) -> Behaviour:
        """What was found out.

        Raises:
            Inconclusive: nothing was.
        """
        if self.setting.weight_decay == 0.0:
            return self.verdict.without_decay()
        unfitting: Behaviour | None = None
        for effect in self._effects():
            if found := self._classify(effect):
                is_divided = found.decay == "l2" and found.adaptive
                return by_one_number(found) if is_divided and self._divided_by_one_number() else found
            # perhaps for rounding, of which a higher λ suffers less
            unfitting = unfitting or self.verdict.unfitting(effect, self._loud(effect))
        return unfitting or self._ignored()

    # The rule without decay.

    def _still(self) -> Tensor:
        off = self.setting.off
        still = self.rig.run(off, self.rig.gradients())
        if torch.equal(still[-1], still[0]):
            self.rig = replace(self.rig, steps=PATIENT_STEPS)
            still = self.rig.run(off, self.rig.gradients())
        if not torch.isfinite(still).all():
            raise Inconclusive("a step on ordinary gradients gives weights that are not finite")
        if torch.equal(still[-1], still[0]):
            raise Inconclusive("steps with gradients leave the weight as it is")
        if not torch.equal(self.rig.run(off, self.rig.gradients()[:3]), still[:4]):
            raise Inconclusive("two runs from the same start, with the same seed, end at different weights")
        return still

    def _adaptive(self) -> bool | None:
        """g against 1000 g, by the last two steps: RAdam does not divide before step 6."""
        try:
            loud = self.rig.run(self.setting.off, self.rig.gradients(1e3))
        except Exception:
            return None
        small, large = (path[-3:].diff(dim=0).abs().sum(0) for path in (self.still, loud))
        moved = small > 0
        if not torch.isfinite(loud).all() or not moved.any():
            return None
        ratio = float((large[moved] / small[moved]).median())
        if ratio < 30.0:  # nearer to 1 than to 1000, on the scale of powers
            return True
        return False if ratio > 300.0 else None

    def _divided_by_one_number(self) -> bool:
        """Whether the sizes of gradients within the tensor stay as they are in its steps (LARS): half of them
        a thousandfold."""
        loud = torch.arange(self.still.shape[1]) % 2 == 0
        scale = torch.where(loud, 1e3, 1.0).reshape(self.rig.shape)
        try:
            path = self.rig.run(
                self.setting.off, [(grad * scale).to(grad.dtype) for grad in self.rig.gradients()]
            )
        except Exception:
            return False
        small, large = (path[-3:].diff(dim=0).abs().sum(0) for path in (self.still, path))
        ratio = large / small
        return bool(ratio[loud].nanmedian() > 300.0 * ratio[~loud].nanmedian())

    def _memoryless(self) -> bool:
        """Whether a step is -c·g and nothing else."""
        ratio = self.still.diff(dim=0) / torch.stack(self.rig.gradients()).double().flatten(1)
        return bool((ratio - ratio.median()).abs().max() <= TOLERANCE * ratio.median().abs())

    # What λ adds.

    def _effects(self) -> Iterator[Effect]:
        """Where the effect of λ is clear, at the real λ first."""
        self.seen, self.highest = False, 0.0
        for factor in FACTORS:
            weight_decay = self.setting.weight_decay * factor
            try:
                pulled = self.rig.run(weight_decay, self.rig.gradients())
            except Exception:  # a raised λ may be refused; the real one may not
                if factor == 1.0:
                    raise
                return
            if not torch.isfinite(pulled).all():
                return
            effect = Effect(weight_decay, self.still, pulled, self.eps)
            rate = effect.first_rate()
            if factor > 1.0 and abs(rate) > 0.5 and effect.takes_first(rate):
                return  # a decay this strong hides all else
            self.seen, self.highest = self.seen or bool(effect.difference.any()), weight_decay
            if effect.clear:
                yield effect

    def _ignored(self) -> Behaviour:
        if self.seen or self.highest < SURELY_SEEN:
            raise Inconclusive(
                f"weight_decay={self.setting.weight_decay:g} at lr={self.setting.lr:g} moves the weights by "
                f"no more than rounding does in {self.rig.dtype}"
            )
        if (step := self._first_acting()) is not None:
            return self.verdict.rarely(self.highest, step)
        return self.verdict.ignored(self.highest)

    def _first_acting(self) -> int | None:
        """The first step of a long run in which λ leaves a trace, for decay every ten or hundred steps."""
        grads = self.rig.gradients(steps=LAZY_STEPS)
        try:
            pulled, still = (self.rig.run(value, grads) for value in (self.highest, self.setting.off))
        except Exception:  # λ or many steps of the same kind are too much for it
            return None
        differs = (pulled != still).any(dim=1)
        return int(differs.nonzero()[0]) if differs.any() else None

    # Which hypothesis fits.

    def _classify(self, effect: Effect) -> Behaviour | None:
        rates = self.rates.of_decay(effect.weight_decay)
        whole = rates is not None and bool(rates.any())
        if rates is not None and (found := self.verdict.now_and_then(rates)):
            return found
        first = torch.full((self.rig.steps,), effect.first_rate(), dtype=torch.float64)
        # by the first step where zero gradients tell nothing, or (AdamP) something else than real ones do
        for used in (rates, first) if rates is not None and whole else (first,):
            if fits := self._fits(effect, used):
                break
        else:
            return self.verdict.by_gradient_size(
                effect, first if rates is None else rates, self._loud(effect)
            )
        best, order = best_of(fits)
        memoryless = self._memoryless()
        if "l2" in fits and memoryless and order != "after":
            # then L2 is decoupled decay, and only a rate other than lr·λ speaks for something else
            found = self.verdict.shrinking(effect, used, HYPOTHESES["before"], "before")
            if found.decay != "decoupled":
                return found
            best = "l2"
        if best == "l2":
            return self.verdict.l2(effect, used if whole else None, memoryless=memoryless)
        if whole and used is first and (other := self.verdict.as_a_whole(effect, self._loud(effect))):
            return other
        return self.verdict.shrinking(effect, used, HYPOTHESES[best], order)

    def _fits(self, effect: Effect, rates: Tensor) -> dict[str, float]:
        """The hypotheses that give the optimizer's weights, and how far each is off."""
        penalty = -effect.weight_decay if self.setting.group.get("maximize") else effect.weight_decay
        fits = {}
        for name, hypothesis in HYPOTHESES.items():
            try:
                hand = hypothesis.hand(penalty, rates)
                path = self.rig.run(self.setting.off, self.rig.gradients(), hand=hand)
            except Exception:  # a hand that goes astray may break a foreign step
                continue
            if (misfit := effect.misfit(path)) is not None:
                fits[name] = misfit
        return fits

    def _loud(self, effect: Effect) -> Tensor:
        """What λ does beside a thousandfold gradient."""
        loud = self.rig.gradients(1e3)
        return (self.rig.run(effect.weight_decay, loud) - self.rig.run(self.setting.off, loud))[-1]
