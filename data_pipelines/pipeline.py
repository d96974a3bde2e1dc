"""prepare: read and stage the raw files → split → fit on train rows → encode and write."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_pipelines.encoders import FeatureEncoder, new_encoders
from data_pipelines.events.leakage import check_samples
from data_pipelines.events.pipeline import EventSamples, build_events
from data_pipelines.plan import make_plan
from data_pipelines.reading import Progress, prefetch
from data_pipelines.recipe import Recipe
from data_pipelines.sources import Source
from data_pipelines.splits import SPLITS, SplitCodes
from data_pipelines.staging import (
    Staged,
    assign_splits,
    read_chunks,
    split_keys,
    stage_chunk,
)
from data_pipelines.writing import SplitWriter, new_folder, readable_os_errors, save_schema
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Schema, Split


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
            encoders, splits, samples = build_events(recipe, source, raw, folder, progress)
        else:
            encoders, splits = _build_rows(recipe, source, raw, folder, progress)
        for encoder in encoders:
            encoder.save(folder)
        schema = _describe(recipe, encoders, splits)
        if samples is not None and samples.rules.check_leakage:
            check_samples(schema, folder, samples, progress)
        shutil.rmtree(staged)
        save_schema(schema, folder)
    return schema


def _describe(recipe: Recipe, encoders: list[FeatureEncoder], splits: dict[str, Split]) -> Schema:
    return Schema(
        name=recipe.name,
        features=tuple(e.describe() for e in encoders),
        group="group_id" if recipe.group_column else None,
        splits=splits,
        recipe=recipe.model_dump(mode="json"),
        created_by=f"polars {pl.__version__}",
    )


def _build_rows(
    recipe: Recipe, source: Source, raw: list[Path], folder: Path, progress: Progress
) -> tuple[list[FeatureEncoder], dict[str, Split]]:
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
) -> dict[str, Split]:
    """The Parquet parts of each split, rows in their raw order."""
    writers = [SplitWriter(folder, name) for name in SPLITS]
    done = 0
    for parts in prefetch(_encoded_parts(encoders, staged, codes)):
        for writer, part in zip(writers, parts, strict=True):
            writer.add(part)
            done += len(part)
        progress("write", done, staged.rows)
    return {
        writer.split: Split(files=writer.close(), rows=writer.rows, positives=writer.positives)
        for writer in writers
    }


def _encoded_parts(
    encoders: list[FeatureEncoder], staged: Staged, codes: SplitCodes
) -> Iterator[list[pl.DataFrame]]:
    """Each chunk encoded and dealt to the splits."""
    for first, frame in staged.chunks():
        chunk_codes = codes[first : first + len(frame)]
        encoded = encode_staged(encoders, frame)
        yield [encoded.filter(pl.Series(chunk_codes == code)) for code in range(len(SPLITS))]


def encode_staged(encoders: list[FeatureEncoder], staged: pl.DataFrame) -> pl.DataFrame:
    """Codes to ids and floats; label and group ids pass."""
    return staged.with_columns(
        e.encode(staged[e.feature.name]).alias(e.feature.name) for e in encoders
    )
