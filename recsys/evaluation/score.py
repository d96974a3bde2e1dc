"""Scores a split with the best model: predictions in Parquet, in file order."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recsys.data.batch import Batch
from recsys.data.loader import BatchLoader
from recsys.distributed.context import Ranks
from recsys.errors import RecsysError
from recsys.evaluation.attention_sample import MAX_ROWS, AttentionSample
from recsys.io.atomic import atomic_write
from recsys.models.ctr_model import CTRModel
from recsys.reports.slices import choose_slices
from recsys.schema import Schema, VocabularyEncoding
from recsys.training.run_folder.trained import TrainedRun


def evaluate_split(trained: TrainedRun, split: str) -> Path:
    """Scores every row of a split into `predictions/<split>.parquet`.

    Columns: label int8, logit and probability float32, group_id if the dataset has groups,
    `slice/<feature>` with ids of the features whose values the report shows, and
    `history_length/<feature>`. For a model with attention, a sample of its weights is written to
    `attention/<split>.parquet`.
    """
    loader = BatchLoader(
        trained.dataset_dir,
        trained.schema,
        split,
        trained.config.data,
        seed=0,
        shuffle=False,
        rank=trained.ranks.rank,
        world_size=trained.ranks.world_size,
    )
    slices = choose_slices(trained.schema, trained.config.report.slices)
    lengths = choose_histories(trained.schema, trained.model)
    batches = -(-MAX_ROWS // trained.config.data.global_batch_size)
    every, rows = max(1, len(loader) // batches), -(-MAX_ROWS // trained.ranks.world_size)
    sample = AttentionSample(trained.model, trained.schema, every, rows)
    path = trained.run_dir / "predictions" / f"{split}.parquet"
    scored = _gathered(predict(trained.model, loader, slices, lengths, sample), trained.ranks)
    if trained.ranks.is_first:
        _write(scored, path)
    else:
        deque(scored, maxlen=0)  # all ranks look up each batch together
    samples = [part for part in trained.ranks.gather(sample.table()) if part is not None]
    if samples and trained.ranks.is_first:
        _write(iter(pa.concat_tables(samples).to_batches()), attention_path(path))
    return path


def attention_path(predictions: Path) -> Path:
    """The file of a split's attention sample."""
    return predictions.parents[1] / "attention" / predictions.name


def choose_histories(schema: Schema, model: CTRModel) -> tuple[str, ...]:
    """History features: those of a model's pairs, and those with the ids of a target."""
    of_pairs = {name for pair in model.network.pairs for name in pair.history}
    of_targets = [f.encoding for f in schema.of_kind("categorical") if f.encoding is not None]
    return tuple(
        f.name
        for f in schema.of_kind("sequence")
        if f.name in of_pairs
        or (isinstance(f.encoding, VocabularyEncoding) and f.encoding in of_targets)
    )


def predict(
    model: CTRModel,
    loader: BatchLoader,
    slices: tuple[str, ...] = (),
    histories: tuple[str, ...] = (),
    sample: AttentionSample | None = None,
) -> Iterator[pa.RecordBatch]:
    """Scores the loader's batches, which have logical ids, in order."""
    device = next(model.network.parameters()).device
    model.eval()
    with torch.no_grad():  # inference mode has no fused lookup on the CPU
        for number, batch in enumerate(loader):
            physical = model.embeddings.to_physical(batch).to(device)
            logits = model(physical)[0].float().cpu()
            if sample is not None and sample.wants(number):
                sample.observe(batch, physical)
            yield _record_batch(batch, logits, slices, histories)


def _record_batch(
    batch: Batch, logits: torch.Tensor, slices: tuple[str, ...], histories: tuple[str, ...]
) -> pa.RecordBatch:
    columns: dict[str, np.ndarray] = {
        "label": batch.labels.numpy().astype(np.int8),
        "logit": logits.numpy(),
        "probability": torch.sigmoid(logits).numpy(),
    }
    if batch.group_ids is not None:
        columns["group_id"] = batch.group_ids.numpy()
    for name in slices:
        columns[f"slice/{name}"] = batch.sparse[name].values().numpy().astype(np.int32)
    for name in histories:
        columns[f"history_length/{name}"] = batch.sparse[name].lengths().numpy().astype(np.int32)
    return pa.RecordBatch.from_pydict(columns)


def _gathered(scored: Iterator[pa.RecordBatch], ranks: Ranks) -> Iterator[pa.RecordBatch]:
    """Joins the ranks' parts of each batch, in file order."""
    for part in scored:
        yield from ranks.gather(part)


def _write(batches: Iterator[pa.RecordBatch], path: Path) -> None:
    """Writes one file atomically."""
    try:
        with atomic_write(path) as partial:
            first = next(batches)
            with pq.ParquetWriter(partial, first.schema) as writer:
                writer.write_batch(first)
                for batch in batches:
                    writer.write_batch(batch)
    except OSError as error:
        raise RecsysError(
            "the predictions cannot be written", where=path, got=error.strerror
        ) from None
