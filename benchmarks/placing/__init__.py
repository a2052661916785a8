"""Guests with rules in a lab of three sites: placed, rebalanced and drained, each held against what was promised."""
