"""The heavy functions of a network, computed for all members of an ensemble in one call each.

``torch.func.vmap`` turns any model into a batched one, but leaves much of the speed on the table where it
falls back on generic rules. Inside :class:`ByHand` the functions of :data:`RULES` are computed by rules of
our own, all others by vmap's. A rule has the signature of the function it stands for; every tensor has the
members as its first axis, ``[members, ...]``, and a rule may only use ordinary differentiable operations
that keep the members apart: a NaN of one must not reach another, not even times zero.

A rule that meets arguments it was not made for raises :class:`Declined`; then vmap's own rule is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from adamantine.study.ensemble import kernels

SHORT = 16  # places: up to here small matrix products beat the fused attention kernel

_C: Any = torch._C._functorch  # what torch.func.vmap itself is made of


class Declined(Exception):
    """The call is not one for a rule of ours."""


class NotBatchable(Exception):
    """The members cannot be computed as one batch; train each alone. The message says why."""


class ByHand(TorchFunctionMode):
    """Around ``vmap`` over the members, answers calls of the functions in :data:`RULES` by their rules.

    What vmap can only compute member by member is slow but right, so its warning is kept from the user.
    """

    def __enter__(self) -> ByHand:
        _C._set_vmap_fallback_warning_enabled(False)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _C._set_vmap_fallback_warning_enabled(True)  # torch's default; it cannot be asked what it was

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule is not None:
            try:
                return _below(rule, args, kwargs)
            except Declined:
                pass
        return func(*args, **kwargs)


def _below(rule: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls the rule on the tensors below ``vmap``, whose member axis is then an ordinary one.

    The public way, an ``autograd.Function`` with a ``vmap`` of its own, does the same ten times slower: as
    slowly as a small layer computes.
    """
    top = _C.peek_interpreter_stack()
    if top is None or top.key() != _C.TransformType.Vmap:
        raise Declined
    level = top.level()
    pairs = [
        _C._unwrap_batched(value, level) if isinstance(value, Tensor) else (value, None)
        for value in (*args, *kwargs.values())
    ]
    members = next((value.shape[dim] for value, dim in pairs if dim is not None), None)
    if members is None:
        raise Declined  # alike for all of them
    values = [
        _members_first(value, dim, members) if isinstance(value, Tensor) else value for value, dim in pairs
    ]
    positional = len(args)
    layer = _C.pop_dynamic_layer_stack()
    try:
        y = rule(*values[:positional], **dict(zip(kwargs, values[positional:], strict=True)))
    finally:
        _C.push_dynamic_layer_stack(layer)
    return _C._add_batch_dim(y, 0, level)


def _members_first(tensor: Tensor, dim: int | None, members: int) -> Tensor:
    return tensor.expand(members, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x`` [members, ..., inputs], ``weight`` [members, outputs, inputs]: one batched matrix product."""
    if weight.dim() != 3:
        raise Declined
    rows = x.reshape(len(x), -1, x.shape[-1])
    product: Tensor = kernels.Linear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], weight.shape[1])


def _convolution(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        """``x`` [members, batch, channels, ...]: a grouped convolution, the members being groups."""
        if x.dim() != weight.dim():  # a single image
            raise Declined
        members = len(x)
        if set(weight.shape[3:]) == {1} and padding in (0, (0,) * (x.dim() - 3)):
            x, stride = _strided(x, stride), 1  # four times as fast as oneDNN's backward pass with a stride
        if members == 1:  # oneDNN computes one group in another order; a member's bits must not tell
            x, weight = x.expand(2, *x.shape[1:]), weight.expand(2, *weight.shape[1:])
            bias = None if bias is None else bias.expand(2, -1)
        y = function(
            _into_channels(x),
            weight.reshape(-1, *weight.shape[2:]),
            None if bias is None else bias.reshape(-1),
            stride,
            padding,
            dilation,
            groups * len(x),
        )
        y = _from_channels(y, len(x))
        return y if members == len(x) else y[:members].contiguous()

    return rule


def _strided(x: Tensor, stride: Any) -> Tensor:
    """The pixels that a kernel of one pixel sees."""
    steps = (stride,) * (x.dim() - 3) if isinstance(stride, int) else stride
    for axis, step in enumerate(steps, start=x.dim() - len(steps)):
        x = x[(slice(None),) * axis + (slice(None, None, step),)]
    return x.movedim(0, 1).contiguous().movedim(1, 0)


def _into_channels(x: Tensor) -> Tensor:
    """[members, batch, channels, ...] to [batch, members * channels, ...]; no copy after another of these."""
    return x.movedim(0, 1).flatten(1, 2)


def _from_channels(x: Tensor, members: int) -> Tensor:
    return x.view(len(x), members, -1, *x.shape[2:]).movedim(1, 0)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``x`` [members, batch, channels, ...]: channels do not mix, so the members are more channels.

    The running statistics must be views of the ensemble's buffers: they are updated in place.
    """
    y = F.batch_norm(
        _into_channels(x),
        None if running_mean is None else running_mean.view(-1),
        None if running_var is None else running_var.view(-1),
        None if weight is None else weight.reshape(-1),
        None if bias is None else bias.reshape(-1),
        training,
        momentum,
        eps,
    )
    return _from_channels(y, len(x))


def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes all members at once; each then has its own scale and shift."""
    y = F.layer_norm(x, normalized_shape, None, None, eps)
    between = (1,) * (x.dim() - 1 - len(normalized_shape))
    if weight is not None:
        weight = weight.view(len(x), *between, *normalized_shape)
        y = y * weight if bias is None else torch.addcmul(bias.view_as(weight), y, weight)
    return y


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """``query`` [members, batch, ..., places, width]: more sequences for the fused kernel."""
    if attn_mask is not None or query.dim() < 4:
        raise Declined
    _no_dropout(dropout_p)
    folded = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
    if not options and query.shape == key.shape == value.shape and query.shape[-2] <= SHORT:
        y: Tensor = kernels.ShortAttention.apply(*folded, is_causal)  # type: ignore[no-untyped-call]
    else:
        y = F.scaled_dot_product_attention(*folded, is_causal=is_causal, **options)
    return y.view(*query.shape[:2], *y.shape[1:])


def embedding(
    indices: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """One table of all members' rows, ``weight`` [members, rows, width], and shifted indices."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise Declined
    members, rows, width = weight.shape
    if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) < rows):
        raise IndexError(f"index out of range: the embedding has {rows} rows")  # not another member's row
    shift = torch.arange(0, members * rows, rows, device=indices.device, dtype=indices.dtype)
    shift = shift.view(members, *(1,) * (indices.dim() - 1))
    looked_up = F.embedding(indices + shift, weight.reshape(-1, width))
    if padding_idx is None:
        return looked_up
    padding = (indices == padding_idx % rows).unsqueeze(-1)  # no gradient; vmap's own rule has one
    return torch.where(padding, looked_up.detach(), looked_up)


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``logits`` [members, batch, classes], ``target`` [members, batch] of classes; only the mean."""
    usual = weight is None and size_average is None and reduce is None and not label_smoothing
    if not usual or reduction != "mean" or logits.dim() != 3 or target.dim() != 2:
        raise Declined
    if ignore_index >= 0 or not target.numel() or int(target.min()) < 0:
        raise Declined  # some may be left out of the mean
    found: Tensor = kernels.CrossEntropy.apply(logits, target)  # type: ignore[no-untyped-call]
    return found


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Nothing where it does nothing; otherwise no batch can draw what each member would draw alone."""
    if training:
        _no_dropout(p)
    return x


def _no_dropout(probability: float) -> None:
    if probability > 0:
        raise NotBatchable(f"dropout (p={probability:g}) draws random numbers in the forward pass")


RULES: dict[Any, Callable[..., Tensor]] = {
    F.linear: linear,
    F.conv1d: _convolution(F.conv1d),
    F.conv2d: _convolution(F.conv2d),
    F.conv3d: _convolution(F.conv3d),
    F.batch_norm: batch_norm,
    F.layer_norm: layer_norm,
    F.scaled_dot_product_attention: attention,
    F.embedding: embedding,
    F.cross_entropy: cross_entropy,
    F.dropout: dropout,
}
