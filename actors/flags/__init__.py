"""Rollout flags: which component a node uses for which subject."""
