"""Where attention can go in a network: sites, found by recording one forward pass."""

from .find import sites
from .site import At, Kind, Side, Site, Stages

__all__ = ["At", "Kind", "Side", "Site", "Stages", "sites"]
