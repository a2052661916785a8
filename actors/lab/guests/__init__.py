"""Guests for the lab, tests and benchmarks, built from Debian packages: `build`, `guest_spec` and `ticks`."""

from actors.lab.guests.images import GuestImages, build
from actors.lab.guests.spec import KINDS, Load, guest_spec
from actors.lab.guests.ticks import Tick, Verdict, parse_ticks, verdict

__all__ = ["KINDS", "GuestImages", "Load", "Tick", "Verdict", "build", "guest_spec", "parse_ticks", "verdict"]
