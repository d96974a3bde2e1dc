"""Raw values to ids and floats, labels and splits."""
