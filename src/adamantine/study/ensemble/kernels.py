"""Forward and backward of a few functions over all members, where torch's own are slow on many small parts.

Each is plain tensor algebra with its derivative written out: what autograd would do through the same
steps, with fewer passes over memory and gradients in the layout of their parameters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NARROW = 16  # columns of a matrix product's result below which MKL loses most of its speed


def products(a: Tensor, b: Tensor, plus: Tensor | None = None) -> Tensor:
    """``a`` [members, rows, k] times ``b`` [members, k, columns], plus [members, 1, columns].

    A lone product is computed twice: MKL has another way for one matrix than for several, and a member's
    bits must not depend on how many others there are.
    """
    if len(a) == 1:
        twice = None if plus is None else plus.expand(2, -1, -1)
        return products(a.expand(2, -1, -1), b.expand(2, -1, -1), twice)[:1]
    return torch.bmm(a, b) if plus is None else torch.baddbmm(plus, a, b)


class Linear(torch.autograd.Function):
    """y = x Wᵀ + b for ``x`` [members, rows, inputs] and ``W`` [members, outputs, inputs]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return products(x, weight.mT, None if bias is None else bias.unsqueeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            products(gradient, weight) if needs_x else None,
            _weight_gradient(gradient, x) if needs_weight else None,
            gradient.sum(1) if needs_bias else None,
        )


def _weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    if x.shape[-1] < NARROW <= gradient.shape[-1]:
        return products(x.mT, gradient).mT.contiguous()
    return products(gradient.mT, x)  # contiguous: autograd takes it as it is


class ShortAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d) v for ``q``, ``k``, ``v`` [..., places, d] with few places.

    Row maxima, exponentials and sums of their own are several times faster here than torch's softmax, whose
    vectors run along a row.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        shape, ctx.scale = q.shape, 1 / math.sqrt(q.shape[-1])
        q, k, v = (tensor.reshape(-1, *shape[-2:]) for tensor in (q, k, v))
        p = products(q, k.mT).mul_(ctx.scale)
        if causal:
            later = torch.ones(p.shape[-2:], dtype=torch.bool, device=p.device).triu(1)
            p.masked_fill_(later, -math.inf)
        p.sub_(p.amax(-1, keepdim=True)).exp_()
        p.div_(p.sum(-1, keepdim=True))
        ctx.save_for_backward(q, k, v, p)
        return products(p, v).view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p = ctx.saved_tensors
        shape = gradient.shape
        gradient = gradient.reshape(v.shape)
        v_gradient = products(p.mT, gradient)
        s_gradient = products(gradient, v.mT).mul_(p)
        s_gradient.addcmul_(p, s_gradient.sum(-1, keepdim=True), value=-1).mul_(ctx.scale)
        q_gradient, k_gradient = products(s_gradient, k), products(s_gradient.mT, q)
        return q_gradient.view(shape), k_gradient.view(shape), v_gradient.view(shape), None


class CrossEntropy(torch.autograd.Function):
    """Mean of -log softmax(z)[t] over the batch: ``z`` [members, batch, classes], ``t`` [members, batch]."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        target = target.unsqueeze(-1)
        shifted = logits - logits.amax(-1, keepdim=True)
        picked = shifted.gather(-1, target)
        p = shifted.exp_()
        total = p.sum(-1, keepdim=True)
        ctx.save_for_backward(p.div_(total), target)
        return (total.log_() - picked).flatten(1).mean(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        p, target = ctx.saved_tensors
        share = (gradient / p.shape[1]).view(-1, 1, 1)
        found = p * share
        return found.scatter_add_(-1, target, -share.expand(target.shape)), None
