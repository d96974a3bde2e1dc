"""Checks a written dataset for leakage.

Three kinds are found: a vocabulary that was fitted on other rows than train, a history that is not
the user's behaviors before the target, and a negative that the user has an event with. Histories
are compared by their hashes, computed from the written rows and from the events of the log.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import load_encoders
from data_pipelines.encoding.hashing import UInt64s, finalize
from data_pipelines.encoding.vocabulary import Int64s, grown
from data_pipelines.events.layout import IS_BEHAVIOR, IS_TARGET, TIME, USER, EventPlan
from data_pipelines.events.log import EventLog
from data_pipelines.events.rows import RowMaker, to_ids
from recsys.errors import RecsysError
from recsys.io.paths import file_inside
from recsys.schema import Schema, VocabularyEncoding

PREPARE_EVENTS = 1 << 20  # the number of events that `prepare` checks
BATCH_ROWS = 1 << 15
BASE = np.uint64(0xD1342543DE82EF95)  # odd, so that its powers have inverses mod 2^64

WRONG_HISTORY = (
    "a history is not the events before its target",
    "the user's last behaviors before the event, oldest first",
)
WRONG_NEGATIVE = (
    "the user has an event with the item of a negative",
    "an item that the user has no event with",
)


def check_vocabularies(schema: Schema, dataset_dir: Path) -> None:
    """Raises RecsysError for a vocabulary that was not fitted on the train rows."""
    _check(schema, dataset_dir, None)


def check_rows(
    schema: Schema,
    dataset_dir: Path,
    log: EventLog,
    frames: Iterable[pl.DataFrame],
    max_events: int = PREPARE_EVENTS,
) -> None:
    """Raises RecsysError for leakage in vocabularies, histories or negatives.

    `frames` are the staged events of the log, whole users in each. If the log has more than
    `max_events`, only the rows of a share of the users are checked.
    """
    users_mod = -(-log.rows // max_events)
    _check(schema, dataset_dir, _allowed_by_log(schema, dataset_dir, log, frames, users_mod))


def _check(schema: Schema, dataset_dir: Path, allowed: "Allowed | None") -> None:
    """Reads the rows once: those of train for the vocabularies, all of them for the log."""
    counts = VocabularyCounts(schema)
    for split in schema.splits if allowed else ("train",):
        columns = [*counts.columns, *(("label", "group_id") if allowed else ())]
        first = 0
        for batch in _batches(schema, dataset_dir, split, columns):
            if split == "train":
                counts.add(batch)
            if allowed:
                _check_batch(batch, allowed, f"{dataset_dir / split}, row {{}}", first)
            first += len(batch)
    counts.check(dataset_dir)


class VocabularyCounts:
    """Counts the ids in train rows, to compare them with the counts in the vocabularies."""

    def __init__(self, schema: Schema) -> None:
        self.columns = [f.name for f in schema.sparse]
        self.sharers: dict[str, list[str]] = {}
        for feature in schema.sparse:
            if isinstance(feature.encoding, VocabularyEncoding):
                self.sharers.setdefault(feature.encoding.file, []).append(feature.name)
        sizes = {f.name: f.num_ids for f in schema.sparse}
        self.counts = {k: np.zeros(sizes[v[0]], np.int64) for k, v in self.sharers.items()}

    def add(self, batch: pa.RecordBatch) -> None:
        """Counts train rows."""
        for file, names in self.sharers.items():
            for name in names:
                np.add.at(self.counts[file], _values(batch[name]), 1)

    def check(self, dataset_dir: Path) -> None:
        """Raises RecsysError for the first value with another count."""
        for file, counts in self.counts.items():
            table = pl.read_parquet(file_inside(dataset_dir, file), glob=False)
            ids = table["id"].to_numpy()
            found = grown(counts, int(ids.max(initial=0)) + 1)[ids]
            wrong = np.flatnonzero(found != table["count"].to_numpy())
            if len(wrong):
                row = int(wrong[0])
                raise RecsysError(
                    f"leakage: a vocabulary was not fitted on the train rows ({len(wrong):,} ids)",
                    where=f"{dataset_dir / file}, value {table['value'][row]!r}",
                    expected=f"count {found[row]}, as in the train rows",
                    got=f"count {table['count'][row]}",
                    fix="prepare the dataset again",
                )


def _batches(
    schema: Schema, dataset_dir: Path, split: str, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for part in schema.split(split).files:
        with pq.ParquetFile(file_inside(dataset_dir, part.path)) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=list(columns))


def _values(column: pa.Array) -> NDArray[np.int32]:
    flat = column.flatten() if pa.types.is_list(column.type) else column
    return flat.to_numpy()


@dataclass(frozen=True)
class Allowed:
    """The allowed contents of rows, as sorted hashes."""

    targets: UInt64s  # (user, histories, item id) of all events that can be targets
    windows: UInt64s  # (user, histories) of them
    own_items: UInt64s  # (user, item id) of all events
    users_mod: int  # rows are checked if the user's hash is a multiple of this
    plan: EventPlan


def _check_batch(batch: pa.RecordBatch, allowed: Allowed, where: str, first: int) -> None:
    plan = allowed.plan
    users = batch["group_id"].to_numpy()
    chosen = np.flatnonzero(_is_chosen(users, allowed.users_mod))
    rows = batch.take(pa.array(chosen)) if len(chosen) < len(batch) else batch
    users = finalize(users[chosen].astype(np.uint64))
    items = rows[plan.rules.item].to_numpy()
    windows = users
    for name in plan.histories:
        windows = _joined(windows, _window_hashes(_values(rows[name]), rows[name].offsets))
    is_drawn = (rows["label"].to_numpy() == 0) & (not plan.has_labels)
    is_known = np.where(
        is_drawn,
        _is_in(windows, allowed.windows),
        _is_in(_joined(windows, _salted(items)), allowed.targets),
    )
    # Id 0 is any rare item, of this user or of another one.
    is_own = is_drawn & (items > 0) & _is_in(_joined(users, _salted(items)), allowed.own_items)
    for wrong, what, expected in ((~is_known, *WRONG_HISTORY), (is_own, *WRONG_NEGATIVE)):
        if wrong.any():
            raise RecsysError(
                f"leakage: {what}",
                where=where.format(first + chosen[np.argmax(wrong)]),
                expected=expected,
                fix="prepare the dataset again, or pass the log that it was made of",
            )


def _is_chosen(users: Int64s, users_mod: int) -> NDArray[np.bool_]:
    return finalize(users.astype(np.uint64)) % np.uint64(users_mod) == 0


def _is_in(hashes: UInt64s, known: UInt64s) -> NDArray[np.bool_]:
    found = np.zeros(len(hashes), np.bool_)
    if len(known):
        order = np.argsort(hashes)  # searches near each other are faster
        places = np.minimum(np.searchsorted(known, hashes[order]), len(known) - 1)
        found[order] = known[places] == hashes[order]
    return found


def _salted(ids: NDArray[np.integer]) -> UInt64s:
    return finalize(ids.astype(np.uint64) + np.uint64(0x5851F42D4C957F2D))


def _joined(left: UInt64s, right: UInt64s) -> UInt64s:
    return finalize(left * BASE + right)


def _powers(size: int) -> UInt64s:
    powers = np.full(size, BASE, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers)


def _window_hashes(ids: NDArray[np.int32], list_offsets: pa.Array) -> UInt64s:
    """Σ salted(id) · BASE^position of each list, combined with its length, (rows,)."""
    offsets = list_offsets.to_numpy().astype(np.int64)
    lengths = np.diff(offsets)
    starts = np.repeat(offsets[:-1] - offsets[0], lengths)
    table = _salted(np.arange(int(ids.max(initial=0)) + 1))
    powers = _powers(int(lengths.max(initial=0)) + 1)
    terms = table[ids] * powers[np.arange(len(ids)) - starts]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return _joined(
        sums[offsets[1:] - offsets[0]] - sums[offsets[:-1] - offsets[0]], _salted(lengths)
    )


def _allowed_by_log(
    schema: Schema, dataset_dir: Path, log: EventLog, frames: Iterable[pl.DataFrame], users_mod: int
) -> Allowed:
    """The allowed contents by the events of one in `users_mod` users, chosen by their hash."""
    encoders = load_encoders(schema.features, dataset_dir)
    maker = RowMaker(log.plan, log.columns, to_ids(encoders))
    parts = [
        _allowed(frame.filter(pl.Series(_is_chosen(frame[USER].to_numpy(), users_mod))), maker)
        for frame in frames
    ]
    targets, windows, own = (np.sort(np.concatenate(p)) for p in zip(*parts, strict=True))
    return Allowed(targets, windows, own, users_mod, log.plan)


def _allowed(frame: pl.DataFrame, maker: RowMaker) -> tuple[UInt64s, UInt64s, UInt64s]:
    rules = maker.plan.rules
    times = [TIME] if TIME in frame.columns else []
    frame = frame.sort([USER, *times], maintain_order=True)
    before = frame.select(n=pl.col(IS_BEHAVIOR).cum_sum() - pl.col(IS_BEHAVIOR))
    frame = frame.with_columns(before["n"].cast(pl.Int64).alias("#before"))
    if times and rules.ties == "excluded":
        frame = frame.with_columns(pl.col("#before").min().over(USER, TIME))
    ends = frame["#before"].to_numpy()
    first = frame.select(pl.col("#before").min().over(USER)).to_series().to_numpy()
    starts = np.maximum(first, ends - rules.max_length)
    users = finalize(frame[USER].to_numpy().astype(np.uint64))
    items = _salted(maker.event_values(rules.item, frame).to_numpy())
    windows = users
    behaviors = frame.filter(pl.col(IS_BEHAVIOR))
    for column in maker.plan.histories.values():
        ids = maker.event_values(column, behaviors).to_numpy()
        windows = _joined(windows, _hashes_of_windows(ids, starts, ends))
    is_target = frame[IS_TARGET].to_numpy()
    return _joined(windows, items)[is_target], windows[is_target], _joined(users, items)


def _hashes_of_windows(ids: NDArray[np.int32], starts: Int64s, ends: Int64s) -> UInt64s:
    """Equal to `_window_hashes`, for overlapping windows: prefix sums, moved to position 0."""
    inverse = np.uint64(pow(int(BASE), -1, 2**64))
    backwards = np.full(len(ids) + 1, inverse, np.uint64)
    backwards[0] = 1
    terms = _salted(ids) * _powers(len(ids))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    return _joined(
        (sums[ends] - sums[starts]) * np.cumprod(backwards)[starts], _salted(ends - starts)
    )
