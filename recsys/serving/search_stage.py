"""The search stage of an export alone, with numpy and safetensors: what is served before ranking.

It reads what the scores need and nothing else: attention's tables where the model has such.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recsys.errors import RecsysError, did_you_mean
from recsys.serving.decoder import Floats, Ids
from recsys.serving.features import ExportedFeature, ExportedSearch, Form
from recsys.serving.manifest import check_export, load_manifest
from recsys.serving.tables import FeatureTables


class Retrieved(NamedTuple):
    """ranks (n,) int64, 1 being the most recent behaviour, and what ordered them (n,), falling."""

    ranks: Ids
    scores: Floats


class SearchStage:
    """A target and its history → the behaviours that matter most, of one pair of the model."""

    def __init__(
        self, export_dir: Path, pair: int = 0, form: Form = "materialized", *, check: bool = True
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
        self.tables = FeatureTables(export_dir, self.manifest)
        self.of_ranks = self._score_ranks()

    def retrieve(
        self,
        target: Mapping[str, int],
        history: Mapping[str, Sequence[int] | Ids],
        k: int | None = None,
    ) -> Retrieved:
        """The k behaviours that the search finds; k is the model's own unless it is given.

        target: the id of each target feature of the pair. history: the ids of each history, oldest
        first, all of one length. There are fewer than k where fewer can be found.
        """
        ids = {name: np.array([_of(target, name)], np.int64) for name in self.pair.target}
        behaviours = self._behaviours(history)
        if self.search.same is None:
            scores = self._scores(ids, behaviours)
        else:
            scores = self._recency(self.search.same, ids, behaviours)
        return _highest(scores[::-1], self.search.num_found if k is None else k)

    def _search(self, export_dir: Path) -> ExportedSearch:
        if self.pair.search is None:
            raise RecsysError(
                f"{self.manifest.model.name} has no search stage that vectors alone decide",
                where=export_dir,
                expected="a model such as dare, twin or sim_hard",
                fix="score whole histories with the graphs",
            )
        return self.pair.search

    def _score_ranks(self) -> Floats | None:
        """What each rank adds to a score, (max_length,), of rank 1 first; None: nothing."""
        if self.search.positions is None or self.search.position_scale is None:
            return None
        positions = self.tables.physical(self.search.positions)
        return positions[1:] @ positions[0] * np.float32(self.search.position_scale)

    def _behaviours(self, history: Mapping[str, Sequence[int] | Ids]) -> dict[str, Ids]:
        ids = {name: np.asarray(_of(history, name), np.int64) for name in self.pair.history}
        lengths = {len(of_one) for of_one in ids.values()}
        if len(lengths) > 1:
            raise RecsysError(
                f"{', '.join(ids)} are not of one length",
                expected="histories that describe the same behaviours",
                got=", ".join(str(len(of_one)) for of_one in ids.values()),
            )
        if self.of_ranks is not None and max(lengths) > len(self.of_ranks):
            raise RecsysError(
                f"{', '.join(ids)}: the history is longer than the model has ranks for",
                expected=f"at most {len(self.of_ranks)} behaviours",
                got=max(lengths),
                fix="give the last ones",
            )
        return ids

    def _scores(self, target: Mapping[str, Ids], history: Mapping[str, Ids]) -> Floats:
        """(L,), oldest first."""
        query, keys = self._compared(target), self._compared(history)
        # not a matrix product, in which equal rows may differ by their places
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
        """(L,), oldest first: -rank of behaviours that are alike, -inf of the others."""
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
