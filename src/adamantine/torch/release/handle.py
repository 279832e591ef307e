"""Gradient release: every parameter takes its step inside ``backward``, and its gradient is freed at once.

The gradients of a model then never exist together: beside weights and state, training needs room for the
gradients of about one layer. The idea is LOMO's (Lv et al. 2023, arXiv 2306.09782) and torch's (tutorial
"How to save memory by fusing the optimizer step into the backward pass"); here it is a mode of the same
optimizer, with its groups, schedulers, guards and checkpoints (docs/release.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from adamantine.torch.norm import squares
from adamantine.torch.release.buffers import STEPS, Buffer, sum_of
from adamantine.torch.release.checks import check_options, refuse_data_parallel
from adamantine.torch.release.clipping import Clip
from adamantine.torch.release.judge import Judge
from adamantine.torch.release.members import Member, Members
from adamantine.torch.release.part import Part, Role, part_class
from adamantine.torch.release.progress import Progress
from adamantine.torch.release.two_pass import step_in_two_passes

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from adamantine.torch.optimizer import Optimizer

#: What a completed gradient does.
Pass = Literal["steps", "measures", "none"]


class GradientRelease:
    """What `Optimizer.release_gradients` returns: the mode, on until `remove` or the end of a ``with``.

    Attributes:
        optimizer: whose parameters are stepped.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        clip: Clip,
        accumulate: int,
        buffer: Buffer,
        scaler: GradScaler | None,
    ) -> None:
        check_options(optimizer, clip, accumulate, buffer, scaler)
        self.optimizer = optimizer
        self._clip, self._accumulate, self._buffer = clip, accumulate, buffer
        self._judge = Judge(optimizer, clip, scaler)
        self._pass: Pass = "none" if clip == "two-pass" else "steps"
        self._looked_for_wrappers = False
        self._progress = Progress(optimizer)
        self._members = Members(optimizer, self, buffer)
        if scaler is not None:  # which is to leave unscaling, and looking for infinities, to us
            optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]

    def remove(self) -> None:
        """Back to ordinary steps. What has been accumulated is in ``.grad`` again."""
        self._refuse_to_forget("remove()")
        for member in self._members:
            if member.sum is not None:
                member.p.grad = member.sum.total_with(member.p.grad)
        self._members.leave()
        if self.optimizer._release is self:
            self.optimizer._release = None
            self.optimizer.__dict__.pop("_step_supports_amp_scaling", None)

    def __enter__(self) -> GradientRelease:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:  # an error that is to be seen, and not what it has left undone
            self._progress.failed = True
        self.remove()

    def end_step(self, closure: Callable[[], float] | None) -> float | None:
        """``optimizer.step()``: what has not been released takes its step, and the next one begins."""
        if self._clip == "two-pass":
            loss: float | None = self._step_in_two_passes(closure)
        else:
            loss = None if closure is None else self._run(closure, "steps")
            self._progress.warn_of_late_changes()
            self._release_the_rest()
        self._members.drop_unused_states()
        self._judge.end()
        if self._buffer == "bfloat16":
            for group in self.optimizer.param_groups:
                group[STEPS] = int(group.get(STEPS, 0)) + 1
        self._begin()
        return loss

    def forget(self) -> None:
        """``optimizer.zero_grad()``: sums that have not moved anything yet are dropped."""
        self._refuse_to_forget("zero_grad()")
        for member in self._members:
            if not member.done:
                member.begin()
        if self._progress.was_cut_short():
            self._judge.begin()
            self._begin()

    def sums_nbytes(self) -> int:
        """Memory of what has been accumulated."""
        return sum(member.sum.nbytes for member in self._members if member.sum is not None)

    def before_saving(self) -> None:
        """``optimizer.state_dict()``: half a step cannot be told from a whole one in there."""
        pending = self._members.in_the_moments()
        if pending:
            warnings.warn(
                f"micro-batches of a step that has not ended are in the moments of {pending[0]}, which a "
                "training that goes on from this state dict would decay again; save after optimizer.step()",
                UserWarning,
                stacklevel=3,
            )

    def follow_load(self) -> None:
        """``optimizer.load_state_dict()``: a step that has begun is over. Sums stay, as ``.grad`` does."""
        for member in self._members:
            member.waits = False
            if member.done or member.in_moments:
                member.begin()
        self._progress.begin()
        self._judge.begin()

    def arrive(self, p: Tensor) -> None:
        """Autograd has completed p's gradient."""
        if torch.compiler.is_compiling():  # compiled autograd traces hooks
            self._arrive_untraced(p)
        else:
            self._arrive(p)

    @torch.no_grad()
    def _arrive(self, p: Tensor) -> None:
        self._progress.enter_backward()
        if not self._progress.has_begun:  # groups may have changed since the last step
            self._members.follow()
            self._members.make_states()
            self._progress.has_begun = True
        member = self._members.get(p)
        if member is None:  # p has left the optimizer
            return
        if not self._looked_for_wrappers:
            refuse_data_parallel(self.optimizer._parameters())
            self._looked_for_wrappers = True
        if self._pass == "none":
            raise RuntimeError(
                "clip='two-pass' frees gradients inside optimizer.step(closure), where closure computes the "
                "loss, calls backward and returns the loss; call backward there, or choose clip='delayed'"
            )
        if member.done:
            p.grad = None
            raise RuntimeError(
                f"backward has reached {member.name} again, which has taken this step already. Call "
                f"optimizer.step() after every {self._accumulate} backward passes, or optimizer.zero_grad() "
                "after one that an error has cut short; with more micro-batches, "
                "release_gradients(accumulate=…); torch.utils.checkpoint needs use_reentrant=False"
            )
        member.arrived += 1
        with self._failing(member):
            if member.arrived < self._accumulate:
                self._collect(member)
            else:
                self._release(member)

    _arrive_untraced = torch._disable_dynamo(_arrive)  # type: ignore[attr-defined]  # there is nothing to trace

    @contextmanager
    def _failing(self, member: Member) -> Iterator[None]:
        """After an error the parameters before this one have moved, and those behind it have not."""
        try:
            yield
        except FloatingPointError as error:
            self._progress.failed = True
            moved = sum(member.done for member in self._members)
            raise FloatingPointError(
                f"{member.name}: {error}. {moved} parameters whose gradients were complete before have taken "
                "this step, the others have not; optimizer.zero_grad() begins anew. clip='two-pass' finds "
                "out before anything moves"
            ) from None
        except BaseException:
            self._progress.failed = True
            raise

    def _collect(self, member: Member) -> None:
        """A micro-batch that is not the step's last."""
        p = member.p
        assert p.grad is not None
        if self._buffer == "moments":
            self._part(member, "collect" if member.in_moments else "open").move()
            member.in_moments = True
        else:
            if member.sum is None:
                step = int(self.optimizer.param_groups[0].get(STEPS, 0))
                seed = self.optimizer.seed
                member.sum = sum_of(p, self._buffer, seed=seed, position=member.position, step=step)
            member.sum.add(p.grad)
        p.grad = None

    def _release(self, member: Member) -> None:
        """The gradient is complete: measured or stepped with, and freed."""
        p = member.p
        if member.sum is not None:
            p.grad, member.sum = member.sum.total_with(p.grad), None
        assert p.grad is not None
        if self._pass == "measures":
            [self._judge.squares[p]] = squares([p.grad])
        else:
            self._progress.move()
            self._part(member, "close" if member.in_moments else "step").move()
        p.grad = None
        member.done = True

    def _release_the_rest(self) -> None:
        """What has a gradient or a sum and has not moved: unhooked, or fewer micro-batches than announced."""
        self._members.follow()
        for member in self._members:
            p = member.p
            if member.done and p.grad is not None:
                raise RuntimeError(
                    f"{member.name} has taken this step inside backward and has a gradient again; a gradient "
                    "that is set by hand must be there before, or instead of, backward"
                )
            if member.done or (p.grad is None and member.arrived == 0):
                continue
            if p.grad is None and member.in_moments:
                p.grad = torch.zeros_like(p)
            with torch.no_grad(), self._failing(member):
                self._release(member)

    def _part(self, member: Member, role: Role) -> Part:
        part = member.parts.get(role)
        if part is None:
            part = member.parts[role] = part_class(type(self.optimizer).__name__)(
                self.optimizer,
                member.number,
                member.p,
                member.name,
                role=role,
                judge=self._judge,
            )
        part.number = member.number
        member.waits = False
        return part

    def _step_in_two_passes(self, closure: Callable[[], float] | None) -> float:
        if closure is None:
            raise RuntimeError(
                "clip='two-pass' needs optimizer.step(closure), where closure computes the loss, calls "
                "backward and returns the loss: it is called twice"
            )

        def once(what: Pass) -> float:
            self._begin()
            loss = self._run(closure, what)
            self._release_the_rest()
            return loss

        try:
            return step_in_two_passes(
                self.optimizer, self._judge, lambda: once("measures"), lambda: once("steps")
            )
        except BaseException:
            self._progress.failed = True
            raise
        finally:
            self._pass = "none"

    def _run(self, closure: Callable[[], float], what: Pass) -> float:
        self._pass = what
        with torch.enable_grad():
            return closure()

    def _begin(self) -> None:
        """Nothing has arrived yet, and no error has cut the step short."""
        for member in self._members:
            member.begin()
        self._progress.begin()

    def _refuse_to_forget(self, call: str) -> None:
        pending = self._members.in_the_moments()
        if pending and not self._progress.was_cut_short():
            raise RuntimeError(
                f"{call}: micro-batches are already in the moments of {pending[0]} and cannot be taken out; "
                "call optimizer.step() before"
            )
