"""Optimizer state in an open format: safetensors and JSON, nothing executable, bit-exact on resume."""
