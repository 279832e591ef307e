"""``adamantine bench``: our optimizers against their peers and the memory limit, on the user's machine."""
