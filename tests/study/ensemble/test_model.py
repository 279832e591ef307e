"""A member of an ensemble computes what its model computes alone, and nothing of another member's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adamantine.study.ensemble.model import Ensemble, NotBatchable
from adamantine.study.task import Settings, Task
from adamantine.study.tasks import load

SEEDS = (3, 0, 1, 0)
TASKS = {
    "digits": Settings(),
    "digits-resnet": Settings(batch_size=5),
    "digits-transformer": Settings(batch_size=6),
    "modular": Settings(train_size=100),
    "text": Settings(batch_size=2),
}
# Stated before measuring: the order of additions may differ, so a few roundings of the largest number.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def solitary(task: Task, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return task.model(seed)


def batches(task: Task, seeds: Sequence[int], dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    splits = [task.data(seed)[0] for seed in seeds]
    x, y = (torch.stack([split[side][: task.batch_size] for split in splits]) for side in (0, 1))
    return (x.to(dtype) if dtype and x.is_floating_point() else x), y


def in_dtype(task: Task, dtype: torch.dtype) -> Task:
    return replace(task, model=lambda seed: task.model(seed).to(dtype))


def close(ours: Tensor, its: Tensor, tolerance: float, scale: float | None = None) -> None:
    scale = float(its.detach().abs().max()) if scale is None else scale
    torch.testing.assert_close(ours, its, rtol=0, atol=tolerance * max(scale, 1e-30))


def check_members(task: Task, seeds: Sequence[int], x: Tensor, y: Tensor, tolerance: float) -> None:
    """Two training passes and an evaluation of every member against its model alone."""
    ensemble = Ensemble(task, seeds)
    ensemble.loss(x, y)
    losses = ensemble.loss(x, y)
    losses.sum().backward()
    buffers = {name: buffer.clone() for name, buffer in ensemble.buffers.items()}
    scores = ensemble.scores(x, y)
    for member, seed in enumerate(seeds):
        model = solitary(task, seed).train()
        task.loss(model(x[member]), y[member])
        loss = task.loss(model(x[member]), y[member])
        loss.backward()
        close(losses[member], loss, tolerance)
        largest = max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)
        for name, p in model.named_parameters():
            gradient = ensemble.parameters[name].grad if p.requires_grad else None
            if p.grad is None:
                assert gradient is None or not gradient[member].any()
            else:
                assert gradient is not None
                close(gradient[member], p.grad, tolerance, largest)
        for name, buffer in model.named_buffers():
            close(buffers[name][member], buffer, tolerance)
        with torch.no_grad():
            score = torch.as_tensor(task.metric(model.eval()(x[member]), y[member])).double()
        close(scores[member], score, tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", TASKS)
def test_members_equal_solitary_models(name: str, dtype: torch.dtype) -> None:
    task = in_dtype(load(name, TASKS[name]), dtype)
    check_members(task, SEEDS, *batches(task, SEEDS, dtype), TOLERANCE[dtype])


def test_members_start_as_they_do_alone() -> None:
    task = load("digits-resnet", Settings())
    ensemble = Ensemble(task, SEEDS)
    assert len(ensemble) == len(SEEDS)
    for member, seed in enumerate(SEEDS):
        model = solitary(task, seed)
        assert list(ensemble.parameters) == [name for name, _ in model.named_parameters()]
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            assert torch.equal({**ensemble.parameters, **ensemble.buffers}[name][member], tensor)
    assert all(p.is_leaf and p.requires_grad for p in ensemble.parameters.values())


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    task = load("digits", Settings())
    Ensemble(task, SEEDS).loss(*batches(task, SEEDS))
    assert torch.equal(torch.rand(3), expected)


# Models of users: each takes [6, 4, 10].


class Tied(nn.Module):
    """Tied weights, a parameter and a layer without use, a frozen parameter, a buffer that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.frozen = nn.Parameter(torch.randn(10), requires_grad=False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += len(x)
        y: Tensor = self.second(torch.tanh(self.first(x * self.frozen)))
        return y


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x)[0]
        return y


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gru(x)[0]
        return y


class Looked(nn.Module):
    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.table((x.abs() * 4).long().clamp(max=6)[..., 0])
        return y


class With(nn.Module):
    """A linear layer and a forward pass of its own."""

    def __init__(self, forward: Callable[[With, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10)
        self.way = forward
        self.register_buffer("average", torch.zeros(()))
        self.plain = torch.randn(10, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


BATCHABLE: dict[str, Callable[[], nn.Module]] = {
    "batch norm of vectors": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(40, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True)
    ),
    "1d": lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3, padding="same"), nn.GELU()),
    "no statistics": lambda: nn.Sequential(
        nn.BatchNorm1d(4, affine=False, track_running_stats=False), nn.Conv1d(4, 6, 3, groups=2)
    ),
    "group norm": lambda: nn.Sequential(
        nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), nn.GroupNorm(2, 6), nn.MaxPool1d(2)
    ),
    "instance norm": lambda: nn.Sequential(nn.InstanceNorm1d(4, affine=True), nn.Linear(10, 3)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose1d(4, 3, 3), nn.PReLU(), nn.Softmax(-1)),
    "dropout of nothing": lambda: nn.Sequential(nn.Linear(10, 4), nn.Dropout(0.0)),
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(10, 4))),
    "padding": lambda: Looked(nn.Embedding(7, 5, padding_idx=2)),
    "bag": lambda: Looked(nn.EmbeddingBag(7, 5, mode="sum")),
    "tied": Tied,
    "attention": Attention,
    "encoder": lambda: nn.TransformerEncoderLayer(10, 2, 20, dropout=0.0, batch_first=True),
}


def user_task(model: Callable[[], nn.Module]) -> Task:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * outputs.sin()).mean() + outputs.abs().sum() * targets.mean()

    def data(seed: int) -> None:
        raise AssertionError("an ensemble is given its data")

    return Task("user", "user", lambda seed: model().double(), data, loss, loss)  # type: ignore[arg-type]


def user_data(members: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(members, 6, 4, 10, generator=generator, dtype=torch.float64)
    return x, torch.rand(members, 6, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("model", BATCHABLE)
def test_models_of_users(model: str) -> None:
    check_members(user_task(BATCHABLE[model]), SEEDS, *user_data(len(SEEDS)), 1e-12)


def _assign(module: With, x: Tensor) -> Tensor:
    module.average = 0.9 * module.average + x.detach().mean()
    y: Tensor = module.layer(x)
    return y


NOT_BATCHABLE: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout": (lambda: nn.Sequential(nn.Linear(10, 4), nn.Dropout(0.1)), r"dropout \(p=0.1\) draws"),
    "noise": (lambda: With(lambda m, x: m.layer(x + torch.randn_like(x))), "random"),
    "item": (lambda: With(lambda m, x: m.layer(x) * x.mean().item()), "item"),
    "branch": (lambda: With(lambda m, x: m.layer(x) if x.mean() > 0 else x), "control flow"),
    "plain attribute": (lambda: With(lambda m, x: m.layer(x) * m.plain), "member 3 differs .* loss"),
    "assigned buffer": (lambda: With(_assign), "member 0 differs .* average"),
    "lazy": (lambda: nn.LazyLinear(3), "weight gets its shape"),
    "other shape": (lambda: nn.Linear(10, int(torch.randint(2, 99, ()))), "built differently"),
    "wrong shape": (lambda: nn.Linear(11, 3), "RuntimeError"),
    "recurrent": (Recurrent, "gru"),
}


@pytest.mark.parametrize("model", NOT_BATCHABLE)
def test_what_cannot_be_batched_is_said(model: str) -> None:
    build, reason = NOT_BATCHABLE[model]
    with pytest.raises(NotBatchable, match=reason):
        Ensemble(user_task(build), (0, 1, 2, 3)).loss(*user_data(4))


def test_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from adamantine.study.ensemble import kernels

    right = kernels._weight_gradient
    monkeypatch.setattr(kernels, "_weight_gradient", lambda g, x: 1.01 * right(g, x))
    task = load("digits", Settings())
    with pytest.raises(NotBatchable, match=r"gradient of 1\.weight"):
        Ensemble(task, SEEDS).loss(*batches(task, SEEDS))


def test_the_rehearsal_leaves_no_trace() -> None:
    calls = []

    def forward(module: With, x: Tensor) -> Tensor:
        module.average += 1
        calls.append(id(module))
        y: Tensor = module.layer(x)
        return y

    ensemble = Ensemble(user_task(lambda: With(forward)), SEEDS)
    before = {name: p.detach().clone() for name, p in ensemble.parameters.items()}
    ensemble.loss(*user_data(4))
    assert ensemble.buffers["average"].tolist() == [1] * 4
    assert calls.count(id(ensemble._module)) == 1
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in ensemble.parameters.items())


# Members apart.


def everything(ensemble: Ensemble, x: Tensor, y: Tensor) -> list[dict[str, Tensor]]:
    """All that a step and an evaluation give each member."""
    losses = ensemble.loss(x, y)
    losses.sum().backward()
    scores, outputs = ensemble.scores(x, y), ensemble.outputs(x)
    found = {"loss": losses.detach(), "scores": scores, "outputs": outputs, **ensemble.buffers}
    found |= {name: p.grad for name, p in ensemble.parameters.items() if p.grad is not None}
    return [{name: t[member].clone() for name, t in found.items()} for member in range(len(ensemble))]


@pytest.mark.parametrize(
    ("name", "poison"), [*((name, torch.nan) for name in TASKS), ("digits-resnet", torch.inf)]
)
def test_a_members_nan_changes_no_bit_of_the_others(name: str, poison: float) -> None:
    task = load(name, TASKS[name])
    x, y = batches(task, SEEDS)
    healthy = everything(Ensemble(task, SEEDS), x, y)
    ensemble = Ensemble(task, SEEDS)
    ensemble.loss(x, y)  # the rehearsal is over
    ensemble.buffers = Ensemble(task, SEEDS).buffers
    with torch.no_grad():
        for p in ensemble.parameters.values():
            p[2] = poison
    poisoned = everything(ensemble, x, y)
    assert not poisoned[2]["loss"].isfinite()
    assert poisoned[2]["scores"].isnan()
    for member in (0, 1, 3):
        for what, tensor in healthy[member].items():
            assert torch.equal(poisoned[member][what], tensor), (member, what)


@pytest.mark.parametrize("name", TASKS)
def test_a_members_bits_do_not_depend_on_company(name: str) -> None:
    """Nor on its place: a grid may be cut and resumed anywhere. Nor on the number of threads, except that
    oneDNN cuts up a convolution according to it; trainings run on one thread."""
    task = load(name, TASKS[name])

    def of_seed_0(seeds: Sequence[int], threads: int) -> dict[str, Tensor]:
        torch.set_num_threads(threads)
        return everything(Ensemble(task, seeds), *batches(task, seeds))[seeds.index(0)]

    several = 1 if name == "digits-resnet" else 2
    expected = of_seed_0([1, 0], 1)
    for seeds, threads in (([0], 1), ([0], several), ([0, 1, 2], several), ([2, 1, 1, 2, 0], 1)):
        for what, tensor in of_seed_0(seeds, threads).items():
            assert torch.equal(tensor, expected[what]), (seeds, threads, what)


def test_keep() -> None:
    task = load("digits-resnet", TASKS["digits-resnet"])
    x, y = batches(task, SEEDS)
    ensemble = Ensemble(task, SEEDS)
    ensemble.loss(x, y)
    state = {name: t.detach().clone() for name, t in (ensemble.parameters | ensemble.buffers).items()}
    expected = ensemble.scores(x, y)
    ensemble.keep([3, 1])
    assert len(ensemble) == 2
    for name, t in (ensemble.parameters | ensemble.buffers).items():
        assert torch.equal(t, state[name][[3, 1]])
    assert torch.equal(ensemble.scores(x[[3, 1]], y[[3, 1]]), expected[[3, 1]])
    ensemble.loss(x[[3, 1]], y[[3, 1]]).sum().backward()
    assert all(p.is_leaf and p.grad is not None for p in ensemble.parameters.values())


def test_keep_before_the_first_loss() -> None:
    ensemble = Ensemble(user_task(NOT_BATCHABLE["plain attribute"][0]), (0, 1, 2, 3))
    ensemble.keep([1, 3])
    with pytest.raises(NotBatchable, match="member 1 differs"):
        ensemble.loss(*user_data(2))


def test_another_number_of_members_is_the_callers_error() -> None:
    task = load("digits", Settings())
    x, y = batches(task, SEEDS)
    ensemble = Ensemble(task, (0, 1, 2))
    for call in (ensemble.loss, ensemble.scores):
        with pytest.raises(ValueError, match="x is of 4 members and y of 4; the ensemble has 3"):
            call(x, y)


def test_scores_see_all_examples_and_are_nan_where_an_output_is_not_finite() -> None:
    task = load("digits", Settings())
    task = replace(task, metric=lambda outputs, targets: F.one_hot(outputs.argmax(-1), 10).amax(0).sum())
    x = torch.rand(2, 300, 1, 8, 8)
    ensemble = Ensemble(task, (0, 1))
    whole = [F.one_hot(outputs.argmax(-1), 10).amax(0).sum() for outputs in ensemble.outputs(x)]
    assert ensemble.scores(x, torch.zeros(2, 300)).tolist() == [int(score) for score in whole]
    x[1, 299] = torch.inf
    assert ensemble.scores(x, torch.zeros(2, 300)).isnan().tolist() == [False, True]
