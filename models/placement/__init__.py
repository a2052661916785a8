"""Which node a guest should run on: pure, deterministic."""
