"""Evolution over columns (Lyu et al. 2022, §3.3).

Scores candidates of the supernet, trains nothing.

Candidates are tuples and never change. The parents of a generation are the best of all candidates
scored so far. A crossover cuts between two tables, so the child has parts of both parents; a
mutation draws each number of columns from 1 to D.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from recsys.config.search import OptEmbedSearchConfig
from recsys.search.candidates import Candidate, rank

Genes = tuple[int, ...]
TRIES = 20  # attempts to find a candidate that is not scored yet


class Sizes(NamedTuple):
    """Sizes of candidates: rows of each table, extra bytes beside them, and each table's D."""

    rows: tuple[int, ...]
    fixed_bytes: int
    embedding_dims: tuple[int, ...]

    def bytes_of(self, genes: Genes) -> int:
        floats = sum(rows * dims for rows, dims in zip(self.rows, genes, strict=True))
        return 4 * floats + self.fixed_bytes


class Evolution:
    """Proposes the candidates of each generation; the caller scores them."""

    def __init__(
        self,
        search: OptEmbedSearchConfig,
        sizes: Sizes,
        is_free: Sequence[bool],
        max_bytes: int,
        seed: int,
    ) -> None:
        """`is_free`: tables whose columns may be cut; the others keep all of theirs."""
        self.search, self.sizes, self.max_bytes = search, sizes, max_bytes
        self.full = np.array(sizes.embedding_dims)
        self.is_free = np.array(is_free)
        self.generator = np.random.default_rng(seed)
        self.generation = 0
        self.scored: dict[Genes, Candidate] = {}

    @property
    def is_over(self) -> bool:
        """True after the random start and all generations; at once if no table is free."""
        last = self.search.generations if self.is_free.any() else 0
        return self.generation > last

    def propose(self) -> list[Genes]:
        """The candidates of the next generation; new ones if there are any left."""
        mutations, crossovers = self.search.mutations, self.search.crossovers
        if self.generation == 0:
            start = [self._shrunk(self.sizes.embedding_dims)]
            return self._new(start, mutations + crossovers, self._random)
        parents = [c.genes for c in rank(self.scored.values())[: self.search.parents]]
        mutants = self._new([], mutations, lambda: self.mutated(self._one_of(parents)))
        if len(self.sizes.rows) < 2 or len(parents) < 2:
            return mutants
        return self._new(
            mutants,
            mutations + crossovers,
            lambda: self.crossed(self._one_of(parents), self._one_of(parents)),
        )

    def record(self, scored: Sequence[Candidate]) -> None:
        """Adds the scores of a whole generation."""
        self.scored.update({candidate.genes: candidate for candidate in scored})
        self.generation += 1

    def mutated(self, parent: Genes) -> Genes:
        """Draws the columns of each table again with probability `mutation_probability`."""
        drawn = self._random_genes()
        is_new = self.generator.random(len(parent)) < self.search.mutation_probability
        genes = (d if new else p for d, new, p in zip(drawn, is_new, parent, strict=True))
        return self._shrunk(tuple(genes))

    def crossed(self, first: Genes, second: Genes) -> Genes:
        """The first tables of one parent, the others of the other."""
        cut = int(self.generator.integers(1, len(first)))  # 1 to F - 1
        return self._shrunk(first[:cut] + second[cut:])

    def state(self) -> dict[str, Any]:
        """Everything that the next generation depends on, as plain values."""
        return {
            "generation": self.generation,
            "generator": self.generator.bit_generator.state,
            "scored": [[list(c.genes), c.bytes, c.auc] for c in self.scored.values()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.generation = state["generation"]
        self.generator.bit_generator.state = state["generator"]
        candidates = [Candidate(tuple(genes), size, auc) for genes, size, auc in state["scored"]]
        self.scored = {candidate.genes: candidate for candidate in candidates}

    def _random(self) -> Genes:
        return self._shrunk(self._random_genes())

    def _random_genes(self) -> Genes:
        drawn = self.generator.integers(1, self.full + 1)
        return tuple(np.where(self.is_free, drawn, self.full).tolist())

    def _one_of(self, parents: Sequence[Genes]) -> Genes:
        return parents[int(self.generator.integers(len(parents)))]

    def _shrunk(self, genes: Genes) -> Genes:
        """Removes columns at random, one at a time, until the candidate fits the budget."""
        left = np.array(genes)
        while self.sizes.bytes_of(tuple(left.tolist())) > self.max_bytes:
            weights = np.array(self.sizes.rows) * ((left > 1) & self.is_free)
            if not weights.any():
                break
            left[self.generator.choice(len(left), p=weights / weights.sum())] -= 1
        return tuple(left.tolist())

    def _new(self, given: list[Genes], count: int, draw: Callable[[], Genes]) -> list[Genes]:
        """`given`, filled up to `count` with candidates that are not scored yet."""
        found = dict.fromkeys(given)
        for _ in range(count * TRIES):
            if len(found) >= count:
                break
            genes = draw()
            if genes not in self.scored:
                found.setdefault(genes)
        return list(found)
