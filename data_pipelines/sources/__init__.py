"""The built-in datasets and the readers of their raw files."""
