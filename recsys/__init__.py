"""Trains click-through-rate models in which every feature chooses how it is embedded."""

__version__ = "0.1.0"
