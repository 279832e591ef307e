"""Which parameter decays, and why: parameter groups for any torch optimizer, with the reason kept.

Modules are duck-typed (``named_modules``, ``named_parameters``); no framework is imported. `grouping` puts
the groups together, `reasons` holds the rules, `depths` the layer-wise learning rate.
"""

from __future__ import annotations

from adamantine.groups.grouping import Decision, ParamGroups, param_groups

__all__ = ["Decision", "ParamGroups", "param_groups"]
