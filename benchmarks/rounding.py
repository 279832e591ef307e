"""How exactly torch computes on this CPU: the two measurements that the documentation cites.

python benchmarks/rounding.py
"""

from __future__ import annotations

import numpy as np
import torch

from adamantine.torch import global_norm


def misrounded_roots(count: int = 1_000_000) -> float:
    """Share of float32 square roots that torch does not round correctly."""
    x = torch.rand(count, generator=torch.Generator().manual_seed(0))
    return float((torch.sqrt(x).numpy() != np.sqrt(x.numpy())).mean())


def norm_errors(count: int) -> tuple[float, float]:
    """Relative error of the 2-norm of ``count`` float32 numbers: torch's, and ours."""
    g = torch.randn(count, generator=torch.Generator().manual_seed(0))
    exact = float(np.sqrt(np.sum(np.square(g.numpy(), dtype=np.longdouble))))
    return abs(torch.linalg.vector_norm(g).item() / exact - 1), abs(global_norm([g]) / exact - 1)


if __name__ == "__main__":
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"float32 square roots off by an ulp: {misrounded_roots():.1%}")
    for count in (1_000_000, 20_000_000):
        theirs, ours = norm_errors(count)
        print(f"norm of {count:>10,} elements: relative error {theirs:.1e} (torch), {ours:.1e} (adamantine)")
