"""A run has the same bits with the ledger as without it, whatever optimizer and loop; and no hook stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adamantine.torch as ours
from adamantine.audit.errors import AuditError
from adamantine.audit.ledger import Ledger
from adamantine.audit.model import LedgerReport

STEPS = 6

Make = Callable[[Any], torch.optim.Optimizer]


def net() -> nn.Module:
    """Large enough that its first weight is sampled, not read whole."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 600), nn.LayerNorm(600), nn.Dropout(0.1), nn.Linear(600, 3))


def data(steps: int = STEPS) -> Iterator[tuple[Tensor, Tensor]]:
    for seed in range(steps):
        generator = torch.Generator().manual_seed(seed)
        yield torch.randn(16, 8, generator=generator), torch.randint(3, (16,), generator=generator)


def plain(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def with_closure(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for x, y in data():

        def closure(x: Tensor = x, y: Tensor = y) -> float:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss.item()

        optimizer.step(closure)


def accumulating(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step, (x, y) in enumerate(data(2 * STEPS)):
        nn.functional.cross_entropy(model(x), y).backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """GradScaler, whose first scale overflows: steps are skipped and the scale falls."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=2)
    for x, y in data():
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()


def run(
    make: Make, loop: Callable[..., None], model: nn.Module | None = None, *, watched: bool
) -> tuple[list[Tensor], LedgerReport | None]:
    """All weights, state and the random numbers to come after a run."""
    model = model or net()
    optimizer = make(model.parameters())
    torch.manual_seed(1)
    report = None
    if watched:
        with Ledger(optimizer, model, every=2) as ledger:
            loop(model, optimizer)
        report = ledger.report()
    else:
        loop(model, optimizer)
    left = [p.detach().clone() for p in model.parameters()]
    left += [
        value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)
    ]
    return [*left, torch.rand(3)], report


def assert_same(make: Make, loop: Callable[..., None], model: Callable[[], nn.Module] = net) -> LedgerReport:
    bare, _ = run(make, loop, model(), watched=False)
    watched, report = run(make, loop, model(), watched=True)
    assert len(bare) == len(watched)
    for a, b in zip(bare, watched, strict=True):
        assert torch.equal(a, b)
    assert report is not None
    return report


OPTIMIZERS: dict[str, Make] = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "Adam foreach": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.01, foreach=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, weight_decay=0.01),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1e-2, weight_decay=0.01),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2, weight_decay=0.01),
    "ours AdamW": lambda p: ours.AdamW(p, lr=1e-2, weight_decay=0.1),
    "ours generic": lambda p: ours.AdamW(p, lr=1e-2, weight_decay=0.1, engine="generic"),
    "ours Lion cautious": lambda p: ours.Lion(p, lr=1e-3, weight_decay=0.1, decay="cautious"),
}


LOOPS = (plain, with_closure, accumulating, scaled)
COMBINED = [(name, plain) for name in OPTIMIZERS]
COMBINED += [(name, loop) for name in ("AdamW fused", "SGD", "ours AdamW") for loop in LOOPS[1:]]


@pytest.mark.parametrize(("name", "loop"), COMBINED)
def test_same_bits(name: str, loop: Callable[..., None]) -> None:
    report = assert_same(OPTIMIZERS[name], loop)
    assert [layer.name for layer in report.layers] == [name for name, _ in net().named_parameters()]
    if loop is not scaled:
        assert (report.steps, report.measured) == (STEPS, 4)  # 1, 2, 4, 6
        assert all(layer.gradient > 0 for layer in report.layers)


def test_scaled_gradients_are_counted_in_their_own_unit() -> None:
    """A fused optimizer gets gradients with the scale still in them."""

    def loop(scale: float) -> Callable[..., None]:
        def inner(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1.0)
            for x, y in data():
                optimizer.zero_grad()
                scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
                scaler.step(optimizer)
                scaler.update()

        return inner

    make = OPTIMIZERS["AdamW fused"]
    _, bare = run(make, loop(1.0), watched=True)
    _, report = run(make, loop(1024.0), watched=True)
    assert report is not None
    assert bare is not None
    for a, b in zip(report.layers, bare.layers, strict=True):
        assert a.gradient == pytest.approx(b.gradient, rel=1e-5)  # powers of two scale without rounding


def test_lbfgs_has_no_decay_and_its_own_closure() -> None:
    report = assert_same(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3), with_closure)
    assert {layer.decay_step for layer in report.layers} == {0.0}
    assert report.layers[0].gradient_step > 0


def test_sparse_gradients() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table = nn.Embedding(2000, 4, sparse=True)  # 8000 elements: sampled

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.table(x.abs().long()[:, :1]).sum(1)
            return out[:, :3]

    def few_rows(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step, (x, y) in enumerate(data()):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x * 0 + step), y).backward()
            optimizer.step()

    report = assert_same(lambda p: torch.optim.SparseAdam(list(p), lr=1e-2), few_rows, Model)
    (layer,) = report.layers
    assert layer.decay_step == 0
    assert layer.nonfinite == 0


def test_complex_parameters() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.w = nn.Parameter(torch.randn(8, 400, dtype=torch.complex64, generator=generator))

        def forward(self, x: Tensor) -> Tensor:
            return (x.to(torch.complex64) @ self.w).abs()[:, :3]

    report = assert_same(lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.5), plain, Model)
    (layer,) = report.layers
    assert layer.separation == "formula"
    assert layer.decay_step > 0


def test_parameters_without_gradients_and_groups_added_later() -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        head = list(parameters)
        return torch.optim.AdamW([{"params": head[:2], "lr": 1e-3}, {"params": head[2:4]}], lr=1e-2)

    def growing(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model[0].bias.requires_grad_(False)  # type: ignore[index,union-attr]
        for step, (x, y) in enumerate(data()):
            if step == 3:
                optimizer.add_param_group({"params": list(model.parameters())[4:]})
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    report = assert_same(make, growing)
    rows = {layer.name: layer for layer in report.layers}
    assert len(rows) == 6
    assert rows["0.bias"].gradient_step == rows["0.bias"].decay_step == 0
    assert rows["0.weight"].gradient_step > 0
    assert rows["3.weight"].gradient_step > 0


def hooks(optimizer: torch.optim.Optimizer) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


@pytest.mark.parametrize("name", ["AdamW", "ours AdamW"])
def test_no_hook_stays_even_after_an_exception(name: str) -> None:
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    ledger = Ledger(optimizer, model)

    def interrupted() -> None:
        with ledger:
            assert hooks(optimizer) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert hooks(optimizer) == 0
    plain(model, optimizer)
    assert ledger.steps == 0


def test_attached_once() -> None:
    model = net()
    with Ledger(OPTIMIZERS["AdamW"](model.parameters()), model) as ledger:
        with pytest.raises(AuditError, match="attached already"):
            ledger.attach()
        with pytest.raises(AuditError, match="attached to them"):
            ledger.after_step()


def test_several_optimizers() -> None:
    model = net()
    first, *rest = model.parameters()
    both = [torch.optim.SGD([first], lr=0.1, weight_decay=0.1), ours.AdamW(rest, lr=1e-3)]
    with Ledger(both, model, every=1) as ledger:
        for x, y in data():
            model.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            for optimizer in both:
                optimizer.step()
    report = ledger.report()
    assert (report.steps, report.measured, len(report.layers)) == (STEPS, STEPS, 6)
    assert report.layers[0].name == "0.weight"
    assert report.layers[0].decay_step > 0


class Bare:
    """Param groups and a step, and no hooks: what some distributed wrappers are."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.param_groups, self.state, self.step = optimizer.param_groups, optimizer.state, optimizer.step


def test_after_step_sees_what_hooks_see() -> None:
    def report_of(how: str) -> LedgerReport:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
        ledger = Ledger(Bare(optimizer) if how == "calls" else optimizer, model, every=2)
        torch.manual_seed(1)
        if how == "hooks":
            ledger.attach()
        for x, y in data():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            if how == "calls":
                ledger.after_step()
        return ledger.report()

    called, hooked = report_of("calls"), report_of("hooks")
    assert (called.steps, called.measured) == (STEPS, STEPS // 2)  # 2, 4, 6: step 1 is not seen
    for a, b in zip(called.layers, hooked.layers, strict=True):
        assert (a.name, a.norm, a.rounded) == (b.name, b.norm, b.rounded)


def test_what_has_no_groups_or_hooks_is_refused_in_words() -> None:
    model = net()
    with pytest.raises(AuditError, match="no param_groups"):
        Ledger(model, model)
    with pytest.raises(AuditError, match="after_step"):
        Ledger(Bare(torch.optim.SGD(model.parameters(), lr=0.1)), model).attach()
    for every in (0, -1, 1.5, True):
        with pytest.raises(AuditError, match="every"):
            Ledger(torch.optim.SGD(model.parameters(), lr=0.1), model, every=every)  # type: ignore[arg-type]
