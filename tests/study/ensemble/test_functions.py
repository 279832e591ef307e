"""Each rule computes for all members what its function computes for one, gradients included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional as F

from adamantine.study.ensemble import functions, kernels
from adamantine.study.ensemble.functions import RULES, ByHand, NotBatchable

MEMBERS = 3
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def whole(below: int, *shape: int) -> Tensor:
    return torch.randint(below, shape, generator=GENERATOR)


class Case:
    """Tensors with a member axis, and how one member calls the function on its own."""

    def __init__(
        self, function: Callable[..., Tensor], call: Callable[..., Tensor], *tensors: Tensor
    ) -> None:
        self.function, self.call, self.tensors = function, call, tensors


def shared(function: Callable[..., Tensor], *tensors: Tensor, **options: Any) -> Case:
    return Case(function, lambda *own: function(*own, **options), *tensors)


N = MEMBERS
CASES = {
    "linear": shared(F.linear, normal(N, 5, 4), normal(N, 6, 4), normal(N, 6)),
    "linear, no bias": shared(F.linear, normal(N, 5, 4), normal(N, 6, 4)),
    "linear, bias by name": Case(
        F.linear,
        lambda x, w, b: F.linear(x, bias=b, weight=w),
        normal(N, 5, 4),
        normal(N, 6, 4),
        normal(N, 6),
    ),
    "linear of a vector": shared(F.linear, normal(N, 4), normal(N, 6, 4), normal(N, 6)),
    "linear of 4 axes, narrow": shared(F.linear, normal(N, 2, 3, 5, 4), normal(N, 20, 4)),
    "linear, same input": Case(F.linear, lambda w: F.linear(torch.ones(5, 4).double(), w), normal(N, 6, 4)),
    "linear, one output": shared(F.linear, normal(N, 5, 4), normal(N, 4)),
    "conv1d": shared(
        F.conv1d, normal(N, 2, 4, 9), normal(N, 6, 2, 3), normal(N, 6), groups=2, padding="same"
    ),
    "conv2d": shared(F.conv2d, normal(N, 2, 3, 5, 6), normal(N, 4, 3, 3, 2), stride=(2, 1), padding=1),
    "conv2d, one pixel": shared(F.conv2d, normal(N, 2, 3, 5, 6), normal(N, 4, 3, 1, 1), stride=(2, 3)),
    "conv2d, one pixel, padded": shared(
        F.conv2d, normal(N, 2, 3, 5, 6), normal(N, 4, 3, 1, 1), stride=2, padding=1
    ),
    "conv1d, one pixel": shared(F.conv1d, normal(N, 2, 3, 7), normal(N, 4, 3, 1), stride=2),
    "conv2d of an image": shared(F.conv2d, normal(N, 3, 5, 6), normal(N, 4, 3, 3, 2)),
    "conv3d": shared(F.conv3d, normal(N, 2, 2, 4, 4, 4), normal(N, 3, 2, 2, 2, 2), dilation=2),
    "batch norm, batch": Case(
        F.batch_norm,
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        normal(N, 5, 4, 3),
        normal(N, 4),
        normal(N, 4),
    ),
    "batch norm, running": Case(
        F.batch_norm,
        lambda x, m, v: F.batch_norm(x, m.detach(), v.detach().square(), x[0], eps=0.1),
        normal(N, 5, 4),
        normal(N, 4),
        normal(N, 4),
    ),
    "layer norm": shared(
        lambda x, w, b: F.layer_norm(x, (4, 3), w, b, 0.1),
        normal(N, 5, 4, 3),
        normal(N, 4, 3),
        normal(N, 4, 3),
    ),
    "layer norm, no bias": shared(lambda x, w: F.layer_norm(x, (3,), w), normal(N, 5, 4, 3), normal(N, 3)),
    "layer norm, plain": shared(lambda x: F.layer_norm(x, [3]), normal(N, 5, 3)),
    "attention": shared(F.scaled_dot_product_attention, *(normal(N, 2, 2, 5, 4) for _ in range(3))),
    "attention, causal": shared(
        F.scaled_dot_product_attention, *(normal(N, 2, 2, 5, 4) for _ in range(3)), is_causal=True
    ),
    "attention, long": shared(
        F.scaled_dot_product_attention, *(normal(N, 2, 2, 20, 4) for _ in range(3)), is_causal=True
    ),
    "attention, 3 axes": shared(F.scaled_dot_product_attention, *(normal(N, 2, 5, 4) for _ in range(3))),
    "attention, scale": shared(
        F.scaled_dot_product_attention, *(normal(N, 2, 5, 4) for _ in range(3)), scale=2.0
    ),
    "attention to others": shared(
        F.scaled_dot_product_attention, normal(N, 2, 5, 4), normal(N, 2, 7, 4), normal(N, 2, 7, 3)
    ),
    "attention, mask": shared(
        F.scaled_dot_product_attention,
        *(normal(N, 2, 5, 4) for _ in range(3)),
        attn_mask=torch.eye(5, dtype=torch.bool),
    ),
    "embedding": shared(F.embedding, whole(7, N, 5, 2), normal(N, 7, 3)),
    "embedding of the same": Case(F.embedding, lambda w: F.embedding(torch.arange(4), w), normal(N, 7, 3)),
    "embedding, padding": shared(F.embedding, whole(7, N, 20), normal(N, 7, 3), padding_idx=-6),
    "embedding, by frequency": shared(F.embedding, whole(7, N, 20), normal(N, 7, 3), scale_grad_by_freq=True),
    "cross entropy": shared(F.cross_entropy, normal(N, 6, 5), whole(5, N, 6)),
    "cross entropy, large": shared(F.cross_entropy, 1e4 * normal(N, 6, 5), whole(5, N, 6)),
    "cross entropy, some ignored": shared(F.cross_entropy, normal(N, 6, 5), whole(5, N, 6)),
    "cross entropy, class ignored": shared(F.cross_entropy, normal(N, 9, 5), whole(5, N, 9), ignore_index=2),
    "cross entropy, sum": shared(F.cross_entropy, normal(N, 6, 5), whole(5, N, 6), reduction="sum"),
    "cross entropy, smoothed": shared(F.cross_entropy, normal(N, 6, 5), whole(5, N, 6), label_smoothing=0.1),
    "cross entropy of places": shared(F.cross_entropy, normal(N, 6, 5, 2), whole(5, N, 6, 2)),
    "cross entropy to shares": shared(F.cross_entropy, normal(N, 6, 5), normal(N, 6, 5).softmax(-1)),
}
CASES["cross entropy, some ignored"].tensors[1][:] = torch.tensor([0, -100, 3, 4, -100, 1])


def with_gradients(compute: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """The result, and the gradients of a sum with unequal weights."""
    leaves = tuple(t.detach().clone().requires_grad_(t.is_floating_point()) for t in tensors)
    y = compute(*leaves)
    weights = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).view(y.shape).sqrt()
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), wanted, materialize_grads=True)]


@pytest.mark.parametrize("name", CASES)
def test_a_rule_is_its_function_for_each_member(name: str) -> None:
    case = CASES[name]

    def batched(*tensors: Tensor) -> Tensor:
        with ByHand():
            return vmap(case.call)(*tensors)

    def one_by_one(*tensors: Tensor) -> Tensor:
        return torch.stack([case.call(*(t[member] for t in tensors)) for member in range(N)])

    expected = with_gradients(one_by_one, case.tensors)
    for ours, its in zip(with_gradients(batched, case.tensors), expected, strict=True):
        torch.testing.assert_close(ours, its, rtol=1e-12, atol=1e-12 * float(its.abs().max()))


@pytest.mark.parametrize("name", sorted({case.function.__name__ for case in CASES.values()} - {"<lambda>"}))
def test_every_rule_is_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases would pass without any rule; here is the first of each function with its rule broken."""
    case = next(case for case in CASES.values() if case.function.__name__ == name)

    def broken(*tensors: Any, **options: Any) -> Tensor:
        raise ZeroDivisionError

    monkeypatch.setitem(RULES, case.function, broken)
    with pytest.raises(ZeroDivisionError), ByHand():
        vmap(case.call)(*case.tensors)


@pytest.mark.parametrize("index", [-1, 7])
def test_an_index_never_reaches_another_members_rows(index: int) -> None:
    indices = torch.tensor([[0, 1], [2, index], [3, 4]])
    with pytest.raises(IndexError, match="7 rows"), ByHand():
        vmap(F.embedding)(indices, normal(N, 7, 3))


def test_running_statistics_are_updated_in_place() -> None:
    x, mean, var = normal(N, 5, 4, 2), normal(N, 4), normal(N, 4).square()
    expected = [(mean[m].clone(), var[m].clone()) for m in range(N)]
    for member, (its_mean, its_var) in enumerate(expected):
        F.batch_norm(x[member], its_mean, its_var, training=True, momentum=0.3)
    with ByHand():
        vmap(lambda x, m, v: F.batch_norm(x, m, v, training=True, momentum=0.3))(x, mean, var)
    for member, (its_mean, its_var) in enumerate(expected):
        torch.testing.assert_close(mean[member], its_mean, rtol=1e-13, atol=0)
        torch.testing.assert_close(var[member], its_var, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.dropout(x, 0.2),
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.2),
    ],
)
def test_dropout_is_refused(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(NotBatchable, match=r"p=0\.2"), ByHand():
        vmap(call)(normal(N, 2, 2, 5, 4))


def test_nothing_changes_where_there_are_no_members() -> None:
    x, weight = normal(5, 4), normal(6, 4)
    with ByHand():
        assert torch.equal(F.linear(x, weight), x @ weight.T)


CLASSES = whole(4, 2, 3)
KERNELS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "linear": (kernels.Linear.apply, (normal(2, 5, 4), normal(2, 3, 4), normal(2, 3))),
    "linear, one member": (kernels.Linear.apply, (normal(1, 5, 4), normal(1, 3, 4), normal(1, 3))),
    "linear, narrow": (kernels.Linear.apply, (normal(2, 5, 4), normal(2, kernels.NARROW, 4), None)),  # type: ignore[dict-item]
    "attention": (
        lambda q, k, v: kernels.ShortAttention.apply(q, k, v, False),
        tuple(normal(2, 3, 4, 5) for _ in range(3)),
    ),
    "attention, causal": (
        lambda q, k, v: kernels.ShortAttention.apply(q, k, v, True),
        tuple(normal(2, 3, 4, 5) for _ in range(3)),
    ),
    "cross entropy": (lambda z: kernels.CrossEntropy.apply(z, CLASSES), (normal(2, 3, 4),)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_derivatives_written_by_hand(name: str) -> None:
    kernel, tensors = KERNELS[name]
    assert torch.autograd.gradcheck(kernel, tuple(t if t is None else t.requires_grad_() for t in tensors))


def test_short_and_long_attention_agree() -> None:
    q, k, v = (normal(2, 3, functions.SHORT, 5) for _ in range(3))
    for causal in (False, True):
        ours = kernels.ShortAttention.apply(q, k, v, causal)
        torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, is_causal=causal))
