"""Export and verify. Nothing is imported here: `reader` must load without torch."""
