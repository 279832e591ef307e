"""The checks, a module per family; importing this package registers them in the order of the table."""

from adamantine.testing.checks import (  # noqa: I001
    paper as paper,
    decay as decay,
    lr as lr,
    gradients as gradients,
    groups as groups,
    state as state,
    duplicates as duplicates,
    loading as loading,
    shapes as shapes,
    interface as interface,
)
