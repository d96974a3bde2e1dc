"""Writes exports of trained runs; recsys.serving reads them without torch."""
