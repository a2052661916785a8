"""What can be wrong with a registry, in words for whoever asked."""

from collections.abc import Sequence


class RegistryError(Exception):
    """Base of all: something about a model registry is not as it must be."""


class VersionUnknown(RegistryError):
    """No such version, or none is in use yet."""


class VersionInvalid(RegistryError):
    """A version was damaged, changed, or signed by nobody who is trusted; it is not loaded."""


class PromotionRefused(RegistryError):
    """The gates speak against a version; `reasons` says what does."""

    def __init__(self, version: str, reasons: Sequence[str]) -> None:
        self.version = version
        self.reasons = tuple(reasons)
        super().__init__(f"{version} is not promoted: {'; '.join(self.reasons)}")


class RegistryBusy(RegistryError):
    """Another writer held the registry's lock for longer than anybody should."""
