"""One node's process: which components it has, in which order they start, and how they stop."""
