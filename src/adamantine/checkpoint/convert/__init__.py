"""Checkpoints of other libraries: torch, optax, DeepSpeed, bitsandbytes, torchao. See docs/convert.md."""
