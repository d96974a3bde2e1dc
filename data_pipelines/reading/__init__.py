"""Raw files of any format as frames of canonical columns."""
