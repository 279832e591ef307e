"""What executes a step. `contract.Update` is what an engine is given; `generic` runs anywhere torch does."""
