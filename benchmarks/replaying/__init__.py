"""Whole moves over recorded links: a deterministic simulator around the product's own decisions."""
