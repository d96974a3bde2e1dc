"""The content of report.json. Its keys are stable, and report.html is drawn from it alone."""

from collections.abc import Iterable
from typing import Literal

from recsys.config.base import Record
from recsys.embeddings.records import AllocationFacts, EmbeddingBytes
from recsys.reports.attention.contents import PairAttention
from recsys.reports.run_folder import Curve, TrainingFacts
from recsys.reports.split_metrics import SplitMetrics
from recsys.schema import Schema


class SplitFacts(Record):
    """A split of the dataset, from its schema."""

    rows: int
    positives: int


class DatasetFacts(Record):
    """The dataset that was trained on.

    name: of its recipe. folder: name of its folder; None if it was not available. dropped_rows: by
    reason. warnings: of `recsys prepare`.
    """

    name: str
    folder: str | None = None
    label: str
    group: str | None
    numerical: int
    categorical: int
    sequence: int
    ids: int
    splits: dict[str, SplitFacts]
    fingerprint: str
    created_by: str
    dropped_rows: dict[str, int] = {}
    warnings: tuple[str, ...] = ()

    @property
    def shown_name(self) -> str:
        """Its name in titles: the folder's, as many datasets are made with one recipe."""
        return self.folder or self.name


class Report(Record):
    """One run's metrics, model size, training cost and configuration.

    monitor: the metric that chose the weights. attention: of the main split, one entry per pair of
    target and history. best_epoch counts from 0, as in training.json; the page, the console and
    metrics.csv count epochs from 1.
    """

    format: Literal[1] = 1
    run: str
    model: str
    seed: int
    monitor: str = "auc"
    best_epoch: int | None
    splits: dict[str, SplitMetrics]
    attention: tuple[PairAttention, ...] = ()
    embeddings: EmbeddingBytes
    allocation: AllocationFacts | None = None
    training: TrainingFacts
    dataset: DatasetFacts
    learning_curves: dict[str, Curve]
    environment: dict[str, object]
    config: str

    @property
    def main_split(self) -> str:
        """The split of the page's headline: test, else valid, else the first."""
        return choose_main_split(self.splits)


def choose_main_split(splits: Iterable[str]) -> str:
    names = list(splits)
    return next(name for name in ("test", "valid", *names) if name in names)


def describe_dataset(schema: Schema, folder: str | None = None) -> DatasetFacts:
    """The facts of the dataset that a report shows."""
    return DatasetFacts(
        name=schema.name,
        folder=folder,
        label=schema.label,
        group=schema.group,
        numerical=len(schema.numerical),
        categorical=len(schema.of_kind("categorical")),
        sequence=len(schema.of_kind("sequence")),
        ids=sum(feature.num_ids for feature in schema.sparse),
        splits={
            name: SplitFacts(rows=split.rows, positives=split.positives)
            for name, split in schema.splits.items()
        },
        fingerprint=schema.fingerprint(),
        created_by=schema.created_by,
        dropped_rows=schema.dropped_rows,
        warnings=schema.warnings,
    )
