"""The study: which optimizer is best at its own best setting, on real data (`compare.py` is the way in)."""
