"""The search stage of an export alone, with numpy and safetensors, to be served before ranking.

It reads only the tables that its scores need: those of attention, if the model has them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recsys.errors import RecsysError, did_you_mean
from recsys.serving.features import ExportedFeature, ExportedSearch
from recsys.serving.manifest import check_export, load_manifest
from recsys.serving.table_forms.base import Floats, Ids
from recsys.serving.tables import FeatureTables


class Retrieved(NamedTuple):
    """ranks (n,) int64, 1 is the most recent behavior, and their scores (n,), descending."""

    ranks: Ids
    scores: Floats


class SearchStage:
    """A target and its history → the behaviors with the highest scores, for one pair."""

    def __init__(
        self, export_dir: Path, pair: int = 0, form: str | None = None, *, check: bool = True
    ) -> None:
        self.manifest = check_export(export_dir) if check else load_manifest(export_dir)
        if not -1 < pair < len(self.manifest.pairs):
            raise RecsysError(
                f"the model has no pair {pair}",
                where=export_dir,
                expected=f"{len(self.manifest.pairs)} pairs, counted from 0",
            )
        self.pair, self.form = self.manifest.pairs[pair], form
        self.search = self._search(export_dir)
        self.features = {feature.name: feature for feature in self.manifest.sparse}
        self.tables = FeatureTables(export_dir, (e for e, _ in self.manifest.embeddings))
        self.of_ranks = self._score_ranks()

    def retrieve(
        self,
        target: Mapping[str, int],
        history: Mapping[str, Sequence[int] | Ids],
        k: int | None = None,
    ) -> Retrieved:
        """Returns the k behaviors that the search finds, or fewer if the history has fewer.

        Args:
            target: the id of each target feature of the pair.
            history: the ids of each history of the pair, oldest first, all of equal length.
            k: number of behaviors; by default the model's own.

        Raises:
            RecsysError: if ids are missing or outside their table, or the histories differ in
                length or are longer than the model reads.
        """
        ids = {name: np.array([_of(target, name)], np.int64) for name in self.pair.target}
        behaviors = self._behaviors(history)
        if self.search.same is None:
            scores = self._scores(ids, behaviors)
        else:
            scores = self._recency(self.search.same, ids, behaviors)
        return _highest(scores[::-1], self.search.num_found if k is None else k)

    def _search(self, export_dir: Path) -> ExportedSearch:
        if self.pair.search is None:
            raise RecsysError(
                f"{self.manifest.model.name} has no search stage that can be run alone",
                where=export_dir,
                expected="a model such as dare, twin or sim_hard",
                fix="score whole histories with the graphs",
            )
        return self.pair.search

    def _score_ranks(self) -> Floats | None:
        """The score of each rank, (max_length,), rank 1 first; None if ranks do not count."""
        if self.search.positions is None or self.search.position_scale is None:
            return None
        positions = self.tables.files.physical(self.search.positions)
        return positions[1:] @ positions[0] * np.float32(self.search.position_scale)

    def _behaviors(self, history: Mapping[str, Sequence[int] | Ids]) -> dict[str, Ids]:
        ids = {name: np.asarray(_of(history, name), np.int64) for name in self.pair.history}
        lengths = {len(one) for one in ids.values()}
        if len(lengths) > 1:
            raise RecsysError(
                f"{', '.join(ids)} differ in length",
                expected="equal lengths: all describe the same behaviors",
                got=", ".join(str(len(one)) for one in ids.values()),
            )
        if self.of_ranks is not None and max(lengths) > len(self.of_ranks):
            raise RecsysError(
                f"{', '.join(ids)}: the history is longer than the model reads",
                expected=f"at most {len(self.of_ranks)} behaviors",
                got=max(lengths),
                fix="give the last ones",
            )
        return ids

    def _scores(self, target: Mapping[str, Ids], history: Mapping[str, Ids]) -> Floats:
        """(L,), oldest first."""
        query, keys = self._compared(target), self._compared(history)
        # not a matrix product: there equal rows may give scores that differ by rounding
        found = np.einsum("la,a->l", keys, query[0])
        scores: Floats = found * np.float32(self.search.scale)
        return scores if self.of_ranks is None else scores + self.of_ranks[: len(scores)][::-1]

    def _compared(self, ids: Mapping[str, Ids]) -> Floats:
        """Ids (L,) of each feature → their vectors for attention, side by side (L, A)."""
        features = (self.features[name] for name in ids)
        embeddings = [feature.attention or feature for feature in features]
        found = zip(embeddings, ids.values(), strict=True)
        return np.concatenate([self.tables.vectors(e, i, self.form) for e, i in found], axis=1)

    def _recency(self, same: str, target: Mapping[str, Ids], history: Mapping[str, Ids]) -> Floats:
        """(L,), oldest first: -rank of behaviors that equal the target, -inf of the others."""
        other = self.pair.history[self.pair.target.index(same)]
        wanted, found = self._own(same, target[same]), self._own(other, history[other])
        ranks = np.arange(len(found), 0, -1, dtype=np.float32)
        return np.where((found == wanted).all(axis=1), -ranks, np.float32(-np.inf))

    def _own(self, name: str, ids: Ids) -> Floats:
        feature: ExportedFeature = self.features[name]
        return self.tables.vectors(feature, ids, self.form)


def _highest(scores: Floats, k: int) -> Retrieved:
    """Scores (L,), most recent first → the k highest that are not -inf, in linear time."""
    candidates = np.flatnonzero(scores > -np.inf)
    if k < len(candidates):
        lowest = np.partition(scores[candidates], -k)[-k] if k > 0 else np.inf
        candidates = candidates[scores[candidates] >= lowest]
    order = candidates[np.argsort(-scores[candidates], kind="stable")][: max(k, 0)]
    return Retrieved(order + 1, scores[order])


def _of(given: Mapping[str, object], name: str) -> object:
    if name not in given:
        raise RecsysError(
            f"no ids of the feature {name!r}",
            expected="the features of the pair",
            got=", ".join(given),
            fix=did_you_mean(name, given),
        )
    return given[name]
