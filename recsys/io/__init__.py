"""Files: which may be opened, how they are written, and what their text may hold."""
