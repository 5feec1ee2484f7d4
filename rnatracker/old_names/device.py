"""Old name of `rnatracker.model.device`."""

from rnatracker.model.device import pick_device

__all__ = ["pick_device"]
