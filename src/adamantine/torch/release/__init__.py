"""Gradient release: every parameter steps inside backward, as soon as its gradient is complete."""
