"""The executable reference: an optimizer over named NumPy arrays, in the arrays' own precision.

Float64 arrays are the truth that every engine is tested against; float32 arrays give, bit for bit, what a
native float32 kernel must give. Nothing but NumPy is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adamantine.rules import RULES, Rule, apply
from adamantine.rules.decay import coefficients
from adamantine.rules.hyper import check

Array = NDArray[Any]


class Optimizer:
    """One rule with one decay mode, over a dictionary of arrays.

    Args:
        rule: a name of `adamantine.rules.RULES`, or a `Rule`.
        lr: learning rate α, in the unit of θ for the adaptive rules. May be assigned between steps.
        decay: decay mode, see `adamantine.rules.decay`.
        weight_decay: λ in the mode's unit.
        peak_lr: η_max for ``independent`` and ``corrected``; None tracks the highest lr so far.
        hyper: the rule's own hyperparameters, by torch's names (``betas``, ``eps``, ``momentum``, …).

    Raises:
        ValueError: an unknown rule, or a hyperparameter out of range.
        TypeError: a hyperparameter that the rule does not have.

    >>> theta = {"w": np.array([1.0, -2.0])}
    >>> adamw = Optimizer("adam", lr=0.1, decay="decoupled", weight_decay=0.5)
    >>> adamw.step(theta, {"w": np.array([3.0, 0.0])})
    >>> theta["w"]  # the first weight moved by lr against its gradient; both shrank by lr·λ = 5 %
    array([ 0.85, -1.9 ])
    """

    def __init__(
        self,
        rule: str | Rule = "adam",
        *,
        lr: float = 1e-3,
        decay: str = "none",
        weight_decay: float = 0.0,
        peak_lr: float | None = None,
        **hyper: Any,
    ) -> None:
        if isinstance(rule, str):
            if rule not in RULES:
                raise ValueError(f"Unknown rule: {rule!r}; choose one of {', '.join(map(repr, RULES))}")
            rule = RULES[rule]
        if unknown := set(hyper) - set(rule.hyper):
            raise TypeError(
                f"rule {rule.name!r} has no hyperparameter {sorted(unknown)}; it has {sorted(rule.hyper)}"
            )
        self.rule = rule
        self.lr = lr
        self.decay = decay
        self.weight_decay = weight_decay
        self.peak_lr = peak_lr
        self.hyper = {**rule.hyper, **hyper}
        check({**self.hyper, "lr": lr, "decay": decay, "weight_decay": weight_decay, "peak_lr": peak_lr})
        self.highest_lr = lr
        self.state: dict[str, dict[str, Any]] = {}

    def step(
        self, params: MutableMapping[str, Array], grads: Mapping[str, Array], *, grad_scale: float = 1.0
    ) -> None:
        """One step, writing new arrays into ``params``; names without a gradient are left alone.

        Args:
            params: name → θ, of any shape, floating point.
            grads: name → gradient of the loss alone, same shape as θ.
            grad_scale: multiplies every gradient first (clipping, loss scale; -1 ascends).

        Raises:
            ValueError: a gradient without its parameter, or of another shape; a dtype that is not floating.
        """
        self.highest_lr = max(self.highest_lr, self.lr)
        peak_lr = self.highest_lr if self.peak_lr is None else self.peak_lr
        decay = coefficients(self.decay, lr=self.lr, weight_decay=self.weight_decay, peak_lr=peak_lr)
        advance = apply.cautious_step if decay.cautious else apply.step
        for name, g in grads.items():
            if name not in params:
                raise ValueError(f"gradient {name!r} has no parameter; there are {sorted(params)}")
            theta, g = np.asarray(params[name]), np.asarray(g)
            if theta.dtype.kind != "f":
                raise ValueError(
                    f"parameter {name!r} has dtype {theta.dtype}; give float32 or float64 arrays"
                )
            if g.shape != theta.shape:
                raise ValueError(f"gradient {name!r} has shape {g.shape}, its parameter {theta.shape}")
            state = self._state(name, theta)
            scalars, carried = self.rule.host(state["step"], self.hyper, state["carried"])
            # 1-d views: NumPy turns 0-d results into scalars, which follow other promotion rules.
            shape, flat = theta.shape, theta.reshape(-1)
            slots = [state[key].reshape(-1) for key in self.rule.slots.values()]
            with np.errstate(all="ignore"):  # overflow and NaN are results here, as on every other engine
                g = apply.scale(g.reshape(-1).astype(flat.dtype, copy=False), grad_scale)
                if decay.couple:
                    g = apply.penalize(g, flat, decay.couple)
                u, *slots = self.rule.direction(g, *slots, **scalars)
                params[name] = advance(flat, u, decay.shrink, self.lr).reshape(shape)
            state["carried"] = carried
            state.update(
                {key: new.reshape(shape) for key, new in zip(self.rule.slots.values(), slots, strict=True)}
            )

    def _state(self, name: str, theta: Array) -> dict[str, Any]:
        """The parameter's state, its step already counted."""
        if name not in self.state:
            fill = {letter: self.hyper[source] for letter, source in self.rule.initial.items()}
            slots = {
                key: np.full_like(theta, fill.get(letter, 0.0)) for letter, key in self.rule.slots.items()
            }
            self.state[name] = {"step": 0, "carried": dict(self.rule.carried), **slots}
        state = self.state[name]
        state["step"] += 1
        return state
