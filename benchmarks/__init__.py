"""Measurements beside named rivals, on the lab's link, in one run: ``novacron bench NAME --json FILE``.

Every file has the same shape: ``{"bench", "version", "machine", "rows": [flat objects]}``.
"""
