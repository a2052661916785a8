"""Faults at every phase of a move in a lab of three sites, and the proof that each guest had one owner throughout."""
