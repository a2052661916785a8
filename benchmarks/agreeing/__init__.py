"""A seeded world in virtual time in which consensus cores are tried: network, disks, crashes, clocks, clients.

Nothing here knows the protocol under test but the `Mode` that it is given (``mode.py``; ``raft.py`` is Raft's).
The same seed gives the same run, event by event.
"""
