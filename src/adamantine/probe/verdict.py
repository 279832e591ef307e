"""From what was measured to a `Behaviour` and the sentence that says why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from adamantine.probe.behaviour import Behaviour, Decay
from adamantine.probe.effect import Effect
from adamantine.probe.hypotheses import HYPOTHESES, Hypothesis, Order
from adamantine.probe.rates import Rates, first_nonzero, limit
from adamantine.probe.setting import Setting, number
from adamantine.probe.tolerance import CLEAR, GROWTH, ROUNDINGS, TOLERANCE


@dataclass(frozen=True)
class Verdict:
    """The words for one optimizer. Every ``rates`` holds the fraction of the weight for each step."""

    setting: Setting
    rates: Rates
    adaptive: bool | None

    def without_decay(self) -> Behaviour:
        """λ is 0; whether the weight is left alone all the same."""
        said = "the group has no weight_decay" if self.setting.off is None else "weight_decay=0"
        drift = self._drift()
        if not drift:
            return self._found("none", 0.0, said)
        evidence = f"{said}, yet without a gradient a step takes {drift:.3g} of the weight"
        return self._found("other", drift, evidence)

    def ignored(self, highest: float) -> Behaviour:
        """The same weights with any λ up to ``highest``."""
        drift = self._drift()
        evidence = (
            f"weights are the same bits with weight_decay 0, {self.setting.weight_decay:g} and {highest:g}"
        )
        if drift:
            evidence += f"; without a gradient a step takes {drift:.3g} of the weight all the same"
        return self._found("ignored", drift, evidence)

    def rarely(self, highest: float, step: int) -> Behaviour:
        """The same weights with any λ, until this step of a long run."""
        evidence = (
            f"λ acts now and then: weights are the same bits with weight_decay 0 and {highest:g} until step "
            f"{step}, and no longer the same then"
        )
        return self._found("other", None, evidence)

    def now_and_then(self, rates: Tensor) -> Behaviour | None:
        """None unless the weight shrinks in some steps only, once it has begun."""
        begun = rates[first_nonzero(rates) :]
        acts = begun.abs() > ROUNDINGS * self.rates.eps
        if bool(acts.all()) or not bool(acts.any()):
            return None
        steps = ", ".join(str(int(i) + 1) for i in (rates.abs() > ROUNDINGS * self.rates.eps).nonzero())
        evidence = f"without a gradient λ acts now and then: in step {steps} of the first {len(rates)} only"
        return self._found("other", None, evidence)

    def l2(self, effect: Effect, rates: Tensor | None, *, memoryless: bool) -> Behaviour:
        """``rates`` None: without a gradient the weight does not shrink as a whole, so L2 is divided."""
        evidence = "adding λθ to the gradients by hand gives the same weights"
        if self.adaptive is not False:
            return self._found("l2", None, evidence)
        if rates is None:
            evidence += "; λθ is divided where gradients are small, and not where they are large"
            return replace(self._found("l2", None, evidence), adaptive=None)
        if memoryless:
            evidence += ", and so does decoupled decay: without momentum the two are one"
        first, last = self._ends(rates, effect)
        evidence += f"; without a gradient a step takes {first:.3g} of the weight"
        if last > (1.0 + TOLERANCE) * first:
            evidence += f", {last:.3g} once momentum has built up"
        return self._found("l2", max(first, last) + self._drift(), evidence, power=1)

    def shrinking(self, effect: Effect, rates: Tensor, hypothesis: Hypothesis, order: Order) -> Behaviour:
        """The weight shrinks by ``rates``; which mode that is."""
        lr, weight_decay = self.setting.lr, effect.weight_decay
        rate = float(rates[first_nonzero(rates)])
        if rate < 0:
            evidence = f"λ={weight_decay:g} drives weights away from 0, by {-rate:.3g} of the weight per step"
            return self._found("other", None, evidence, order)
        first, last = self._ends(rates, effect)
        if float(rates.max()) > GROWTH * rate and last > GROWTH * first:
            evidence = (
                f"without a gradient the first step takes {first:.3g} of the weight, later {last:.3g}, "
                "as where λθ enters a momentum undivided, or the optimizer warms its lr up by itself"
            )
            return self._found("other", last, evidence)
        power = self.rates.power(weight_decay, lr)
        decay = self._named(rate, weight_decay, power)
        if hypothesis.cautious:
            decay = "cautious" if decay == "decoupled" else "other"
        evidence = (
            f"{hypothesis.said} gives the same weights: by {rate:.4g} per step at lr={lr:g}, "
            f"λ={weight_decay:g}, where lr·λ is {lr * weight_decay:.4g}; "
        )
        evidence += "by no power of lr" if power is None else f"proportional to lr^{power}"
        if abs(float(rates[-1]) - rate) > TOLERANCE * rate:
            evidence += f"; by {float(rates[-1]):.4g} in step {len(rates)}"
        return self._found(decay, self.setting.at_real(rate, weight_decay, power), evidence, order, power)

    def by_gradient_size(self, effect: Effect, rates: Tensor, loud: Tensor) -> Behaviour | None:
        """Where no hypothesis fits step for step, a thousandfold gradient may tell; None where it does not.

        ``loud``: what λ does beside it.
        """
        louder = effect.times(loud)
        if effect.takes_first(effect.first_rate()) and (found := self.as_a_whole(effect, loud)):
            return found
        if self.adaptive and abs(louder) < 0.05:  # 0.001, were all of it divided
            evidence = (
                f"a thousandfold gradient makes the decay {louder:.3g} times as strong: λθ is divided too"
            )
            return self._found("l2", None, evidence)
        rate = float(rates[first_nonzero(rates)])
        if self.adaptive and 0.9 < louder < 1.1 and rate > 0 and effect.takes_first(rate):
            found = self.shrinking(effect, rates, HYPOTHESES["before"], "unclear")
            if found.lr_power is None:
                return found
            later = "; in the first step, that is: later on not all of it reaches the weight at once"
            return replace(found, evidence=found.evidence + later)
        return None

    def as_a_whole(self, effect: Effect, loud: Tensor) -> Behaviour | None:
        """None unless the weight shrinks as a whole by a rate that depends on the gradients (AdamS)."""
        louder = effect.times(loud)
        if not self.adaptive or 0.9 < louder < 1.1:
            return None
        evidence = (
            f"the weight shrinks as a whole, by {effect.first_rate():.3g} beside gradients of about 1 and "
            f"{louder:.3g} times as much beside thousandfold ones, at λ={effect.weight_decay:g}"
        )
        return self._found("other", None, evidence)

    def unfitting(self, effect: Effect, loud: Tensor) -> Behaviour:
        """No hypothesis gives these weights. ``loud``: what λ does beside a thousandfold gradient."""
        if effect.takes_constant():
            evidence = "the first step takes the same amount off every weight, whatever its size and sign"
        else:
            evidence = (
                "neither λθ in the gradient nor a shrinking weight gives its steps; a thousandfold gradient "
                f"makes the effect of λ={effect.weight_decay:g} {effect.times(loud):.3g} times as large"
            )
            if effect.drives_away(loud):  # heavyball's NAdam takes λθ off its step once too often
                evidence += ", and there it drives the weights away from 0"
        return self._found("other", None, evidence)

    def _found(
        self,
        decay: Decay,
        shrink: float | None,
        evidence: str,
        order: Order = "unclear",
        power: int | None = None,
    ) -> Behaviour:
        return Behaviour(decay, self.adaptive, shrink, order, power, "probe", evidence)

    def _drift(self) -> float:
        """What a step takes of the weight without gradient and without λ."""
        drift = self.rates.without_gradient(self.setting.off)
        rate = 0.0 if drift is None else float(drift[0])
        return rate if abs(rate) > CLEAR * self.rates.eps else 0.0

    def _ends(self, rates: Tensor, effect: Effect) -> tuple[float, float]:
        """The first rate and the one that they tend to, at the group's λ and lr."""
        first, last = float(rates[first_nonzero(rates)]), limit(rates)
        factor = self.setting.at_real(1.0, effect.weight_decay, 1)
        return factor * first, factor * last

    def _named(self, rate: float, weight_decay: float, power: int | None) -> Decay:
        """The mode whose formula gives this rate at this lr and follows lr by this power."""
        lr, peaks = self.setting.lr, self.setting.peaks
        decoupled = lr * weight_decay
        expected: dict[Decay, list[float]] = {
            "fixed": [rate] if power == 0 else [],
            # D-Adaptation and Prodigy multiply lr by their own estimate, which they keep as "d"
            "decoupled": [decoupled, decoupled * number(self.setting.group, "d")] if power == 1 else [],
            "independent": [decoupled / peak for peak in peaks] if power == 1 else [],
            "corrected": [decoupled * lr / peak for peak in peaks] if power == 2 else [],
        }
        for decay, values in expected.items():
            if any(abs(rate - value) <= TOLERANCE * value for value in values):
                return decay
        return "other"


def by_one_number(l2: Behaviour) -> Behaviour:
    """L2 where λθ and the gradient are divided together, by one number for the whole tensor (LARS)."""
    more = (
        "; the step is divided by one number for the whole tensor, so that all its elements decay alike, by "
        "a rate that follows the size of its gradients"
    )
    return replace(l2, adaptive=None, evidence=l2.evidence + more)
