"""The model on an accelerator; master weights, state and step on the host."""
