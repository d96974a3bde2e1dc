"""Rows of raw files → rows of a dataset: read and stage, split, fit on train rows, write."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.encoding.encoders import FeatureEncoder, new_encoders
from data_pipelines.encoding.splits import SPLITS, SplitCodes, assign_splits, split_keys
from data_pipelines.encoding.staging import Staged, encode_staged, read_chunks, stage_chunk
from data_pipelines.encoding.statistics import FeatureStatistics, count_missing
from data_pipelines.plan import make_plan
from data_pipelines.reading.chunks import prefetch
from data_pipelines.recipe import Recipe
from data_pipelines.source import Source
from data_pipelines.writing import Progress, SplitWriter, Written, close_writers
from recsys.errors import RecsysError, did_you_mean

BETWEEN = "label between label.rule's negative and positive"


def build_rows(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> Written:
    """Makes one row of the dataset of each row of the files, and writes the splits."""
    encoders, staged = _stage(recipe, source, raw, folder / "staged", progress)
    codes = assign_splits(recipe, np.concatenate(staged.labels), np.concatenate(staged.split_keys))
    _fit(encoders, staged, codes, progress)
    return _write(encoders, staged, codes, folder, progress)


def _stage(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> tuple[list[FeatureEncoder], Staged]:
    """Reads all rows once, as codes."""
    columns = source.columns(recipe, source.files(raw)[0])
    if recipe.label.column not in columns:
        raise RecsysError(
            f"label column {recipe.label.column!r} not found",
            where=source.files(raw)[0],
            expected=f"one of {', '.join(columns)}",
            fix=did_you_mean(recipe.label.column, columns)
            or "set label.column; if the first line is a row, set file.header=false and "
            "file.columns; files without labels can be scored, but not prepared",
        )
    plan = make_plan(recipe, columns)
    encoders, staged = new_encoders(plan.features), Staged(folder)
    for chunk in read_chunks(source, recipe, raw, plan.dtypes):
        staged.split_keys.append(split_keys(recipe, chunk.frame, chunk.path))
        staged.add(stage_chunk(recipe, encoders, chunk.frame))
        if chunk.dropped:
            earlier = staged.dropped_rows.get(BETWEEN, 0)
            staged.dropped_rows[BETWEEN] = earlier + chunk.dropped
        progress("read", staged.rows, None)
    return encoders, staged


def _fit(
    encoders: list[FeatureEncoder], staged: Staged, codes: SplitCodes, progress: Progress
) -> None:
    """Fits transforms and vocabularies on the train rows."""
    for round_number in range(max((e.rounds for e in encoders), default=0)):
        active = [e for e in encoders if round_number < e.rounds]
        names = [e.feature.name for e in active]
        for first, frame in prefetch(staged.chunks(names)):
            train = frame.filter(pl.Series(codes[first : first + len(frame)] == 0))
            for encoder in active:
                encoder.fit(train[encoder.feature.name])
            progress("fit", first + len(frame), staged.rows)
        for encoder in active:
            encoder.end_round(round_number)


def _write(
    encoders: list[FeatureEncoder],
    staged: Staged,
    codes: SplitCodes,
    folder: Path,
    progress: Progress,
) -> Written:
    """Writes the Parquet files of all splits, rows in their raw order."""
    writers = [SplitWriter(folder, name) for name in SPLITS]
    statistics = [FeatureStatistics(encoder) for encoder in encoders]
    done = 0
    for parts in prefetch(_encoded_parts(encoders, staged, codes, statistics)):
        for writer, part in zip(writers, parts, strict=True):
            writer.add(part)
            done += len(part)
        progress("write", done, staged.rows)
    return Written(close_writers(writers), statistics, dropped_rows=staged.dropped_rows)


def _encoded_parts(
    encoders: list[FeatureEncoder],
    staged: Staged,
    codes: SplitCodes,
    statistics: list[FeatureStatistics],
) -> Iterator[list[pl.DataFrame]]:
    """Encodes each chunk and divides it into the splits."""
    for first, frame in staged.chunks():
        chunk_codes = codes[first : first + len(frame)]
        encoded = encode_staged(encoders, frame)
        parts = [encoded.filter(pl.Series(chunk_codes == code)) for code in range(len(SPLITS))]
        for encoder, one in zip(encoders, statistics, strict=True):
            name = encoder.feature.name
            one.add_missing(count_missing(encoder, frame[name], chunk_codes))
            for code, part in enumerate(parts):
                one.add(code, part[name], part["label"])
        yield parts
