"""Devices: what they can do, what they draw, what they cost; the catalog and how to load from it."""

from __future__ import annotations

from tokensim.hardware.base import Device, Efficiency, Link
from tokensim.hardware.draw import DRAW, Draw
from tokensim.hardware.loading import catalog_names, load_device

__all__ = ["DRAW", "Device", "Draw", "Efficiency", "Link", "catalog_names", "load_device"]
