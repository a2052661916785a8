"""The agreed control state: who owns which guest, decided by a deterministic state machine over a replicated log."""
