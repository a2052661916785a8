"""For all tests: hypothesis sets no deadline of its own, since a busy machine is no fault."""

from hypothesis import settings

settings.register_profile("novacron", deadline=None)
settings.load_profile("novacron")
