"""Event logs → samples with histories: targets, negatives, windows; whole users at a time."""
