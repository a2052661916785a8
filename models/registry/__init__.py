"""Model versions on disk: signed, checked on load, promoted only past gates.

``Registry(root, kind)`` is the door: `publish`, `versions`, `load`, `record`, `promote`, `rollback`, `shadow`,
`history`.
"""

from models.registry.card import KINDS, Calibration, Card, Change, Evaluation, Kind, Metric, State
from models.registry.errors import PromotionRefused, RegistryBusy, RegistryError, VersionInvalid, VersionUnknown
from models.registry.registry import Listed, Loaded, Registry, shipped_folder

__all__ = [
    "KINDS",
    "Calibration",
    "Card",
    "Change",
    "Evaluation",
    "Kind",
    "Listed",
    "Loaded",
    "Metric",
    "PromotionRefused",
    "Registry",
    "RegistryBusy",
    "RegistryError",
    "State",
    "VersionInvalid",
    "VersionUnknown",
    "shipped_folder",
]
