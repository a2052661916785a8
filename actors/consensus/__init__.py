"""Pure cores that agree on one log of entries (see docs/consensus.md): no I/O, no clock, no chance."""
