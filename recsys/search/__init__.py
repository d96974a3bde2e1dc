"""Search: trains a supernet, scores smaller versions of it, and writes an allocation file.

Three disjoint sets of rows. Weights are trained on `train`. The architecture (thresholds, factors,
kept rows and columns, early stopping) is chosen on `valid`; if factors are trained, its batches
with an even number train them and its batches with an odd number score candidates. `test` is for
the report of the model that is trained from the allocation; no search reads it.
"""
