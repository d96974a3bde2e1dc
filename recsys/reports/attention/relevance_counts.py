"""Counts behaviors by label over the rows of a dataset, for their relevance."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.readable import readable
from recsys.io.paths import file_inside
from recsys.metrics import Behaviors, Relevance
from recsys.metrics.predictions import Ints, check_labels
from recsys.reports.attention.sampled import SampledPair
from recsys.schema import Schema

MAX_BEHAVIORS = 30_000_000
CHUNK_ROWS = 65_536
Cells = tuple[Ints, Ints, Ints]


def shares_vocabulary(pair: SampledPair, schema: Schema) -> bool:
    """Whether target and history share a vocabulary, small enough to number all cells."""
    target, history = schema.feature(pair.target), schema.feature(pair.history)
    ranks = int(pair.behaviors.lengths.max(initial=0)) + 1
    return (
        target.encoding is not None
        and target.encoding == history.encoding
        and target.num_ids == history.num_ids
        and target.num_ids**2 * ranks < 2**62
    )


def count_rows(
    pair: SampledPair, schema: Schema, dataset_dir: Path, cells: Iterable[Cells]
) -> Relevance:
    """Counts the sample's own cells and `cells`, from the rows of all splits in turn.

    Stops after 30 million behaviors.
    """
    rows = pair.behaviors
    wanted = [(rows.targets[rows.rows], rows.ids, rows.ranks), *cells]
    last = max(int(ranks.max(initial=1)) for _, _, ranks in wanted)
    relevance = Relevance(schema.feature(pair.target).num_ids, last)
    for each in wanted:
        relevance.want(*each)
    counted = 0
    for chunk in read_rows(pair, schema, dataset_dir):
        relevance.add(chunk)
        counted += len(chunk.ids)
        if counted >= MAX_BEHAVIORS:
            break
    return relevance


def read_rows(pair: SampledPair, schema: Schema, dataset_dir: Path) -> Iterator[Behaviors]:
    columns = [pair.target, pair.history, schema.label]
    for split in schema.splits.values():
        for file in split.files:
            path = dataset_dir / file.path
            with readable(path), pq.ParquetFile(file_inside(dataset_dir, file.path)) as parquet:
                for batch in parquet.iter_batches(CHUNK_ROWS, columns=columns):
                    yield behaviors_of(batch, *columns)


def behaviors_of(batch: pa.RecordBatch, target: str, history: str, label: str) -> Behaviors:
    lists = batch[history]
    return Behaviors(
        targets=batch[target].to_numpy().astype(np.int64),
        ids=lists.flatten().to_numpy().astype(np.int64),
        lengths=pc.list_value_length(lists).fill_null(0).to_numpy(False).astype(np.int64),
        labels=check_labels(batch[label].to_numpy()),
    )
