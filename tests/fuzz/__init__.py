"""Everything that reads bytes from a wire, fed with bytes from anywhere. ``python -m tests.fuzz --help``."""
