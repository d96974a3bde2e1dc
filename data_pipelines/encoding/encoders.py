"""Feature encoders: canonical raw column → staged column → ids or floats."""

from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.encoding.transforms import TransformFit, apply_transform
from data_pipelines.encoding.vocabulary import (
    HashIds,
    IdRule,
    Int64s,
    TextVocabulary,
    TokenVocabulary,
    load_vocabulary,
    save_vocabulary,
)
from data_pipelines.reading.chunks import make_lists
from data_pipelines.rules.columns import (
    FeaturePlan,
    HashRule,
    QuantileBucketsRule,
    StandardizeRule,
    makes_tokens,
)
from recsys.io.file_names import file_stems
from recsys.io.paths import file_inside
from recsys.schema import Encoding, Feature, HashEncoding, Transform, VocabularyEncoding


class FeatureEncoder:
    """Encodes one feature: stages all rows, reads the train rows `rounds` times, then encodes.

    A transform that must be fitted is applied after staging; others are applied in staging.
    """

    def __init__(
        self,
        feature: Feature,
        transform: Transform | TransformFit | None,
        ids: IdRule | None,
        min_count: int = 1,
        owns_ids: bool = True,
    ) -> None:
        self.feature, self.transform, self.ids = feature, transform, ids
        self.min_count, self.owns_ids = min_count, owns_ids
        self.is_fitted_late = isinstance(transform, TransformFit)
        counts = ids is not None and not isinstance(ids, HashIds)
        self.rounds = int(self.is_fitted_late) + int(counts)

    def stage(self, column: pl.Series) -> pl.Series:
        """Compact codes of all rows; missing values are null, or id 0 of a hash."""
        column = unnamed(column)
        if self.is_fitted_late:
            return column
        prepared = self._prepare(column)
        if self.ids is None and column.null_count():
            return prepared.set(column.is_null(), None)
        return prepared

    def fit(self, staged: pl.Series, weights: Int64s | None = None) -> None:
        """Fits to train rows: the transform in the first round if necessary, then the counts.

        `weights` (rows,) are the numbers of train rows that contain each row of a text column.
        """
        staged = unnamed(staged)
        if isinstance(self.transform, TransformFit):
            self.transform.add(staged)
        elif self.ids is not None:
            self._count(self._prepare(staged) if self.is_fitted_late else staged, weights)

    def end_round(self, round_number: int) -> None:
        """Ends a round of `fit`: fits the transform, or assigns the ids."""
        if isinstance(self.transform, TransformFit):
            self.transform = self.transform.fitted()
        elif self.ids is not None and self.owns_ids and round_number == self.rounds - 1:
            self.ids.finish(self.min_count)

    def encode(self, staged: pl.Series) -> pl.Series:
        """Ids (int32) or numbers (float32), without nulls."""
        staged = unnamed(staged)
        if self.is_fitted_late:
            return self._finish(self._prepare(staged))
        if self.ids is None and staged.null_count():
            return staged.fill_null(self._number_of_missing)
        return self._finish(staged)

    def is_missing(self, staged: pl.Series) -> pl.Series:
        """The mask (rows,) of missing staged values."""
        is_final = isinstance(self.ids, HashIds) and not self.is_fitted_late
        return staged == 0 if is_final else staged.is_null()

    def fill(self, encoded: pl.Series) -> pl.Series:
        """Replaces null by the encoded value of a missing one."""
        if not encoded.null_count():
            return encoded
        return encoded.fill_null(self._number_of_missing if self.ids is None else 0)

    def describe(self) -> Feature:
        """The feature with the fitted transform and the cardinality."""
        fitted: dict[str, object] = {}
        if not isinstance(self.transform, TransformFit):
            fitted["transform"] = self.transform
        if self.ids is not None:
            fitted["cardinality"] = self.ids.cardinality
        return self.feature.model_copy(update=fitted)

    def save(self, folder: Path) -> None:
        """Writes the vocabulary, if this feature owns one."""
        encoding = self.feature.encoding
        if self.owns_ids and isinstance(encoding, VocabularyEncoding):
            assert isinstance(self.ids, TextVocabulary | TokenVocabulary)
            save_vocabulary(self.ids.table, folder / encoding.file)

    @cached_property
    def _number_of_missing(self) -> float:
        """The encoded value of a missing number."""
        return float(self._prepare(pl.Series("x", [None], pl.Float64))[0])

    def _prepare(self, column: pl.Series) -> pl.Series:
        if self.transform is not None:
            assert not isinstance(self.transform, TransformFit)
            column = apply_transform(self.transform, column)
        return column if self.ids is None else self.ids.stage(column)

    def _count(self, prepared: pl.Series, weights: Int64s | None) -> None:
        assert self.ids is not None
        self.ids.count(prepared, weights)

    def _finish(self, prepared: pl.Series) -> pl.Series:
        return prepared if self.ids is None else self.ids.encode(prepared)


class SequenceEncoder(FeatureEncoder):
    """Encodes many values in each row, text or lists, as list<int32>."""

    def _prepare(self, column: pl.Series) -> pl.Series:
        assert self.ids is not None
        is_text = not isinstance(column.dtype, pl.List)
        lists = column.str.split(self.feature.separator or "") if is_text else column
        lists = lists.fill_null([])
        if self.feature.max_length:
            lists = lists.list.tail(self.feature.max_length)
        items = _flatten(lists)
        items = items.to_frame("v").select(pl.when(pl.col("v") != "").then(pl.col("v"))).to_series()
        return make_lists(self.ids.stage(items), lists.list.len().to_numpy())

    def _count(self, prepared: pl.Series, weights: Int64s | None) -> None:
        if weights is not None:
            weights = np.repeat(weights, prepared.list.len().to_numpy())
        super()._count(_flatten(prepared), weights)

    def _finish(self, prepared: pl.Series) -> pl.Series:
        return make_lists(super()._finish(_flatten(prepared)), prepared.list.len().to_numpy())

    def fill(self, encoded: pl.Series) -> pl.Series:
        return encoded.list.eval(pl.element().fill_null(0)) if null_items(encoded) else encoded


def unnamed(column: pl.Series) -> pl.Series:
    """The column with a plain name: polars interprets some names as patterns."""
    return column.alias("x")


def _flatten(lists: pl.Series) -> pl.Series:
    return lists.filter(lists.list.len() > 0).explode()


def null_items(lists: pl.Series) -> int:
    """The number of null items of the lists."""
    return int(lists.to_arrow(compat_level=pl.CompatLevel.oldest()).flatten().null_count)


def new_encoders(features: tuple[FeaturePlan, ...]) -> list[FeatureEncoder]:
    """Encoders that are not fitted yet."""
    rules = {f.name: _new_id_rule(f) for f in features}
    stems = file_stems(f.name for f in features)
    encoders = []
    for plan in features:
        rule = plan.transform
        transform: Transform | TransformFit | None
        if isinstance(rule, StandardizeRule | QuantileBucketsRule):
            transform = TransformFit(rule, plan.name)
        else:
            transform = rule
        build = SequenceEncoder if plan.kind == "sequence" else FeatureEncoder
        encoders.append(
            build(
                _blank_feature(plan, stems[plan.vocabulary]),
                transform,
                rules[plan.vocabulary],
                min_count=plan.min_count,
                owns_ids=plan.vocabulary == plan.name,
            )
        )
    return encoders


def _new_id_rule(plan: FeaturePlan) -> IdRule | None:
    if plan.encoding is None:
        return None
    if isinstance(plan.encoding, HashRule):
        return HashIds(plan.encoding.cardinality)
    return TokenVocabulary() if makes_tokens(plan.transform) else TextVocabulary()


def _blank_feature(plan: FeaturePlan, stem: str) -> Feature:
    encoding: Encoding | None = None
    if isinstance(plan.encoding, HashRule):
        encoding = HashEncoding()
    elif plan.encoding is not None:
        encoding = VocabularyEncoding(file=f"vocabularies/{stem}.parquet")
    return Feature.model_validate(
        {
            "name": plan.name,
            "kind": plan.kind,
            "column": plan.column,
            "encoding": encoding,
            "max_length": plan.max_length,
            "separator": plan.separator,
        }
    )


def load_encoders(features: tuple[Feature, ...], dataset_dir: Path) -> list[FeatureEncoder]:
    """The encoders of a prepared dataset."""
    vocabularies: dict[str, IdRule] = {}
    encoders = []
    for feature in features:
        ids: IdRule | None = None
        if isinstance(feature.encoding, HashEncoding):
            ids = HashIds(feature.num_ids)
        elif isinstance(feature.encoding, VocabularyEncoding):
            file = feature.encoding.file
            if file not in vocabularies:
                vocabularies[file] = load_vocabulary(file_inside(dataset_dir, file))
            ids = vocabularies[file]
        build = SequenceEncoder if feature.kind == "sequence" else FeatureEncoder
        encoders.append(build(feature, feature.transform, ids))
    return encoders
