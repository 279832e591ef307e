"""What executes a step: `native`, a table over the kernel; `generic`, which runs anywhere torch does.

`explain` tells which parameter goes where; `contract.Update` is what the generic engine is given.
"""
