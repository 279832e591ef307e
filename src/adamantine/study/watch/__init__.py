"""Ways to watch a comparison: in the terminal (`display`, `heatmap`) and in TensorBoard (`tensorboard`)."""
