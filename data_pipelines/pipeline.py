"""prepare: read and stage the raw files → split → fit on train rows → encode and write."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.encoding.encoders import FeatureEncoder, new_encoders
from data_pipelines.encoding.splits import SPLITS, SplitCodes
from data_pipelines.encoding.staging import (
    Staged,
    assign_splits,
    read_chunks,
    split_keys,
    stage_chunk,
)
from data_pipelines.encoding.statistics import FeatureStatistics, count_missing, find_warnings
from data_pipelines.events.leakage import check_samples
from data_pipelines.events.pipeline import EventSamples, build_events
from data_pipelines.plan import make_plan
from data_pipelines.reading.blocks import Progress, prefetch
from data_pipelines.reading.times import TimedSource
from data_pipelines.recipe import Recipe
from data_pipelines.sources.joined import JoinedSource
from data_pipelines.sources.table import Source
from data_pipelines.writing import (
    SplitWriter,
    Written,
    close_writers,
    new_folder,
    readable_os_errors,
    save_schema,
)
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Schema

BETWEEN = "label between label.rule's negative and positive"


def run_pipeline(
    recipe: Recipe,
    source: Source,
    raw: list[Path],
    out: Path,
    progress: Progress,
    overwrite: bool = False,
) -> Schema:
    """Builds the data set beside `out` and renames it at the end."""
    with readable_os_errors(out), new_folder(out, overwrite) as folder:
        staged = folder / "staged"
        staged.mkdir()
        samples: EventSamples | None = None
        if recipe.events:
            encoders, written, samples = build_events(recipe, source, raw, folder, progress)
        else:
            encoders, written = _build_rows(recipe, source, raw, folder, progress)
        for encoder in encoders:
            encoder.save(folder)
        schema = _with_joins(_describe(recipe, encoders, written), source)
        if samples is not None and samples.rules.check_leakage:
            check_samples(schema, folder, samples, progress)
        shutil.rmtree(staged)
        save_schema(schema, folder)
    return schema


def _describe(recipe: Recipe, encoders: list[FeatureEncoder], written: Written) -> Schema:
    return Schema(
        name=recipe.name,
        features=tuple(e.describe() for e in encoders),
        group="group_id" if recipe.group_column else None,
        splits=written.splits,
        recipe=recipe.model_dump(mode="json"),
        created_by=f"polars {pl.__version__}",
        statistics={one.feature.name: one.counts() for one in written.statistics},
        dropped_rows=written.dropped_rows,
        warnings=(*written.warnings, *find_warnings(written.statistics, written.splits)),
    )


def _with_joins(schema: Schema, source: Source) -> Schema:
    if isinstance(source, TimedSource):
        source = source.inner
    if not isinstance(source, JoinedSource):
        return schema
    warnings = (*source.warnings(), *schema.warnings)
    return schema.model_copy(update={"joins": source.counts(), "warnings": warnings})


def _build_rows(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> tuple[list[FeatureEncoder], Written]:
    """One row of the files, one row of the data set."""
    encoders, staged = _stage(recipe, source, raw, folder / "staged", progress)
    codes = assign_splits(recipe, staged)
    _fit(encoders, staged, codes, progress)
    return encoders, _write(encoders, staged, codes, folder, progress)


def _stage(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> tuple[list[FeatureEncoder], Staged]:
    """Every row once, as codes."""
    columns = source.columns(recipe, source.files(raw)[0])
    if recipe.label.column not in columns:
        raise RecsysError(
            f"the label column {recipe.label.column!r} is missing",
            where=source.files(raw)[0],
            expected=f"one of {', '.join(columns)}",
            fix=did_you_mean(recipe.label.column, columns)
            or "set label.column; if the first line is a row, file.header=false and file.columns; "
            "a file without labels can be scored, but not prepared",
        )
    plan = make_plan(recipe, columns)
    encoders, staged = new_encoders(plan.features), Staged(folder)
    for chunk in read_chunks(source, recipe, raw, plan.dtypes):
        staged.split_keys.append(split_keys(recipe, chunk))
        staged.add(stage_chunk(recipe, encoders, chunk.frame))
        if chunk.dropped:
            earlier = staged.dropped_rows.get(BETWEEN, 0)
            staged.dropped_rows[BETWEEN] = earlier + chunk.dropped
        progress("read", staged.rows, None)
    return encoders, staged


def _fit(
    encoders: list[FeatureEncoder], staged: Staged, codes: SplitCodes, progress: Progress
) -> None:
    """Transforms and vocabularies, from train rows only."""
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
    """The Parquet parts of each split, rows in their raw order."""
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
    """Each chunk encoded and dealt to the splits."""
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


def encode_staged(encoders: list[FeatureEncoder], staged: pl.DataFrame) -> pl.DataFrame:
    """Codes to ids and floats; label and group ids pass."""
    return staged.with_columns(
        e.encode(staged[e.feature.name]).alias(e.feature.name) for e in encoders
    )
