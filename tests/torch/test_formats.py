"""Every rule in every format on the generic engine: the bits of the NumPy texts, one parameter at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.torch.rule_cases import CASES
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.formats import block, half, split, words
from adamantine.rules import RULES, apply
from adamantine.rules.decay import coefficients

#: dtype of θ, weights, state: every format of weights beside every format of state that matters to it.
STORED = [
    ("float32", None, "8bit"),
    ("float32", None, "4bit"),
    ("float64", None, "8bit"),
    ("float64", None, "4bit"),
    ("bfloat16", "nearest", "8bit"),
    ("bfloat16", "stochastic", "4bit"),
    ("bfloat16", "stochastic", "float32"),
    ("bfloat16", "kahan", "8bit"),
    ("bfloat16", "split8", "8bit"),
    ("bfloat16", "split8", "float32"),
    ("bfloat16", "split16", "4bit"),
    ("float16", "stochastic", "8bit"),
    ("float16", "kahan", "float32"),
]
SIZES = (1, 2, 127, 128, 129, 1000)
STEPS = 4
SEED = 7


class Twin:
    """One parameter in NumPy: what is stored of it, and the step as docs/architecture.md has it."""

    def __init__(self, theta, dtype, weights, rule, forms, hyper, position):
        self.dtype, self.weights, self.rule, self.forms, self.hyper = dtype, weights, rule, forms, hyper
        self.wide = np.float64 if dtype == "float64" else np.float32
        self.theta = theta.astype(self.wide)  # the stored value, exactly
        self.residual = np.zeros(len(theta), np.int32 if weights.startswith("split") else np.float32)
        self.key = words.first_key(SEED, position)
        self.t, self.carried = 0, dict(rule.carried)
        self.slots = {}
        for letter, key in rule.slots.items():
            fill = np.full(len(theta), hyper.get(rule.initial.get(letter), 0.0), np.float32)
            self.slots[key] = self.encode(fill, *forms[key], phase=block.NEAREST) if forms[key][0] else fill

    def encode(self, x, bits, signed, phase):
        return block.encode(in_blocks(x), phase, block.CODES[bits, signed])

    def partner(self, key):
        """The slot in whose root this one is coded, or None."""
        letter = next(letter for letter, name in self.rule.slots.items() if name == key)
        return self.rule.slots.get(self.rule.relative.get(letter)) if self.forms[key][0] == 4 else None

    def decoded(self, key):
        bits, signed = self.forms[key]
        if bits == 0:
            return self.slots[key]
        if partner := self.partner(key):
            v = in_blocks(self.decoded(partner).astype(np.float32))
            found = block.decode_relative(*self.slots[key], v, block.RELATIVE)
        else:
            found = block.decode(*self.slots[key], block.CODES[bits, signed])
        return found.reshape(-1)[: len(self.theta)]

    def master(self):
        if self.weights == "kahan":
            return self.theta + self.residual
        if self.weights.startswith("split"):
            hi = half.nearest_bfloat16(self.theta)
            return (split.join8 if self.weights == "split8" else split.join16)(hi, self.residual)
        return self.theta

    def write(self, theta, index, within, numbers):
        low, high = words.halves(self.key)
        if self.dtype in {"float32", "float64"}:
            self.theta = theta
            return
        short = (
            (lambda x: half.decode_bfloat16(half.nearest_bfloat16(x)))
            if self.dtype == "bfloat16"
            else (lambda x: x.astype(np.float16).astype(np.float32))
        )
        if self.weights == "nearest":
            self.theta = short(theta)
        elif self.weights == "kahan":
            self.theta = short(theta)
            self.residual = short(theta - self.theta)
        elif self.weights == "stochastic" and self.dtype == "float16":
            self.theta = half.stochastic_float16(theta, words.half_word(index, low, high))
        elif self.weights == "stochastic":
            word = words.half_word(index, low, high)
            self.theta = half.decode_bfloat16(half.stochastic_bfloat16(theta, word))
        elif self.weights == "split8":
            hi, self.residual = split.split8(theta, words.phase(within, numbers, high, 3))
            self.theta = half.decode_bfloat16(hi)
        else:
            hi, self.residual = split.split16(theta)
            self.theta = half.decode_bfloat16(hi)

    def step(self, g, eta, decay):
        self.t += 1
        t = self.t if self.rule.counts_steps else min(self.t, 2)
        scalars, self.carried = self.rule.host(t, self.hyper, self.carried)
        theta, g = self.master(), g.astype(self.wide)
        slots = [
            self.decoded(key).astype(self.wide) if self.forms[key][0] else self.decoded(key)
            for key in self.rule.slots.values()
        ]
        if decay.couple:
            g = apply.penalize(g, theta, decay.couple)
        u, *slots = self.rule.direction(g, *slots, **scalars)
        form = apply.cautious_step if decay.cautious else apply.step
        n = len(theta)
        index = np.arange(n, dtype=np.int32)
        self.write(form(theta, u, decay.shrink, eta), index, index % 128, index // 128)
        _, high = words.halves(self.key)
        blocks = np.arange(-(-n // 128), dtype=np.int32)[:, None]
        last_come = sorted(enumerate(self.rule.slots.values()), key=lambda item: bool(self.partner(item[1])))
        for place, key in last_come:
            bits, signed = self.forms[key]
            new = slots[place]
            if partner := self.partner(key):
                phase = words.phase(np.arange(128, dtype=np.int32), blocks, high, place)
                v = in_blocks(self.decoded(partner).astype(np.float32))
                m = in_blocks(new.astype(np.float32))
                self.slots[key] = block.encode_relative(m, v, phase, block.RELATIVE)
            elif bits:
                phase = block.NEAREST
                if not signed:
                    phase = words.phase(np.arange(128, dtype=np.int32), blocks, high, place)
                self.slots[key] = self.encode(new.astype(np.float32), bits, signed, phase)
            else:
                self.slots[key] = new.astype(self.slots[key].dtype)
        self.key = words.next_key(self.key)


def in_blocks(x):
    """``[n]`` → ``[⌈n/128⌉, 128]``, zeros behind."""
    return np.concatenate([x, np.zeros(-len(x) % 128, np.float32)]).reshape(-1, 128)


def packed(codes, n, bits):
    """The bytes of int32 codes ``[blocks, 128]``: a block's first half low, its second half high."""
    if bits == 8:
        return codes.reshape(-1)[:n].astype(np.uint8)
    found = []
    for start, row in zip(range(0, n, 128), codes, strict=True):
        row = row[: min(128, n - start)]
        count = (len(row) + 1) // 2
        high = np.zeros(count, np.int32)
        high[: len(row) - count] = row[count:]
        found.append(row[:count] | high << 4)
    return np.concatenate(found).astype(np.uint8)


def form_of(state, key, rule):
    """(bits, signed) of a slot; 0 bits is dense."""
    asked = state.get(key) if isinstance(state, dict) else state
    letter = next(letter for letter, name in rule.slots.items() if name == key)
    return {"8bit": 8, "4bit": 4}.get(asked, 0), letter not in rule.unsigned


def rounded(x, dtype):
    """float64 → the nearest that θ's dtype holds, as float32 or float64."""
    return (
        torch.tensor(x)
        .to(getattr(torch, dtype))
        .to(torch.float64 if dtype == "float64" else torch.float32)
        .numpy()
    )


def train(rule_name, mode, dtype, weights, state, **options):
    """STEPS steps of ours, and of the twins beside it."""
    rng = np.random.default_rng(5)
    name, own = CASES[rule_name]
    rule = RULES[rule_name]
    if rule.cancelling:  # these slots cannot be coded
        state = {
            key: state if letter not in rule.cancelling else "float32" for letter, key in rule.slots.items()
        }
    values = [rounded(rng.normal(size=n), dtype) for n in SIZES]
    params = [Parameter(torch.tensor(value).to(getattr(torch, dtype))) for value in values]
    ours = at.OPTIMIZERS[name](
        params,
        lr=0.03,
        weight_decay=0.1,
        decay=mode,
        state=state,
        weights=weights,
        seed=SEED,
        **own,
        **options,
    )
    assert ours.rule(ours.param_groups[0]) is rule
    hyper = {key: ours.param_groups[0][key] for key in rule.hyper}
    forms = {key: form_of(state, key, rule) for key in rule.slots.values()}
    both = [
        Twin(value, dtype, weights or "nearest", rule, forms, hyper, position)
        for position, value in enumerate(values)
    ]
    for t in range(STEPS):
        eta = ours.param_groups[0]["lr"] = 0.03 * (1 - t / STEPS)
        for p, twin in zip(params, both, strict=True):
            g = rounded(rng.normal(size=p.numel()) * 10 ** rng.uniform(-3, 3, p.numel()), dtype)
            p.grad = torch.tensor(g).to(p.dtype)
            with np.errstate(all="ignore"):
                twin.step(g, eta, coefficients(mode, lr=eta, weight_decay=0.1))
        ours.step()
    return ours, params, both


def same(ours, p, twin):
    """Whether all that is stored is the same, bit for bit."""
    entry, n = ours.state[p], p.numel()
    np.testing.assert_array_equal(p.detach().to(torch.float64).numpy(), twin.theta.astype(np.float64))
    for key, (bits, _) in twin.forms.items():
        if bits:
            codes, headers = twin.slots[key]
            np.testing.assert_array_equal(entry[key + "_codes"].numpy().reshape(-1), packed(codes, n, bits))
            np.testing.assert_array_equal(entry[key + "_codes_scale"].numpy(), headers.reshape(-1))
        elif entry[key].dtype in {torch.float32, torch.float64}:
            np.testing.assert_array_equal(entry[key].numpy(), twin.slots[key])
    if "residual" in entry:
        np.testing.assert_array_equal(entry["residual"].double().numpy(), twin.residual.astype(np.float64))
    if "rounding" in entry:
        assert int(entry["rounding"]) == twin.key


MODES = ("decoupled", "l2", "cautious")


@pytest.mark.parametrize("rule", CASES)
@pytest.mark.parametrize("mode", MODES)
def test_the_bits_of_the_texts(rule, mode):
    """Every rule meets every format, and every form of a step a third of the formats."""
    first = (list(CASES).index(rule) + MODES.index(mode)) % 3
    for dtype, weights, state in STORED[first::3]:
        ours, params, twins = train(rule, mode, dtype, weights, state, engine="generic")
        for p, twin in zip(params, twins, strict=True):
            same(ours, p, twin)


def test_slots_of_their_own_formats():
    for rule, state in [
        ("adam", {"exp_avg": "4bit"}),
        ("amsgrad", {"exp_avg": "4bit", "exp_avg_sq": "float32", "max_exp_avg_sq": "4bit"}),
        ("radam", {"exp_avg": "8bit", "exp_avg_sq": "4bit"}),
        ("adam", {"exp_avg": "4bit", "exp_avg_sq": "8bit"}),
    ]:
        ours, params, twins = train(rule, "decoupled", "float32", None, state, engine="generic")
        for p, twin in zip(params, twins, strict=True):
            same(ours, p, twin)
    entry = ours.state[params[-1]]
    assert (
        sum(slot.nbytes for key, slot in entry.items() if key.startswith("exp_avg")) == 1000 + 500 + 2 * 8 * 4
    )
