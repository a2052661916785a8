"""What is learned for placement: lifetimes from departures, the weights of a score, and their training."""

SCORER = "scorer.pt"
"""The file of a version that holds a scorer's tensors."""
