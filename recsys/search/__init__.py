"""Search: trains a supernet, scores what could be left out of it, writes the allocation.

Three kinds of rows that never mix. Weights are trained on `train`. The architecture (thresholds'
candidates, factors, rows, columns, when to stop) looks at `valid`; where factors are trained on its
rows, its batches with an even number train them and those with an odd number choose. `test` is for
the report of the model that is trained from the allocation, and no search reads it.
"""
