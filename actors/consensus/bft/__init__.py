"""BFT mode: a chained protocol with n ≥ 3f + 1 (see docs/consensus.md). `BftCore` in `core.py` is the way in."""
