"""Raw labels → 0 or 1, by the rule of the recipe."""

from pathlib import Path

import polars as pl

from data_pipelines.rules.columns import Binary, Label, OneOf, Threshold
from recsys.errors import RecsysError


def apply_label(frame: pl.DataFrame, label: Label, path: Path, first_row: int) -> pl.DataFrame:
    """The frame with an int8 column `label`, without the rows that the rule drops."""
    labels = label_values(frame, label, path, first_row)
    labeled = frame.with_columns(labels)
    if label.column != "label":
        labeled = pl.DataFrame([c for c in labeled if c.name != label.column])
    return labeled.filter(labels.is_not_null()) if labels.null_count() else labeled


def label_values(frame: pl.DataFrame, label: Label, path: Path, first_row: int) -> pl.Series:
    """The labels (rows,), int8: 0, 1, or null if the rule drops the row.

    Raises:
        RecsysError: names the first row with an invalid label.
    """
    frame = frame[label.column].to_frame("x")  # polars interprets some names as patterns
    text = pl.col("x")
    number = text.cast(pl.Float64, strict=False)
    dropped = pl.lit(False)
    match label.rule:
        case Binary():
            positive, negative = number == 1, number == 0
        case Threshold(positive=high, negative=low):
            positive, negative = number >= high, number <= low
            dropped = (number < high) & (number > low)
        case OneOf(positive=ones, negative=zeros):
            positive, negative = text.is_in(ones), text.is_in(zeros)
    checked = frame.select(
        known=(positive | negative | dropped).fill_null(False),
        label=pl.when(~dropped).then(positive.cast(pl.Int8)),
    )
    if not checked["known"].all():
        row = int((~checked["known"]).arg_true()[0])
        raise RecsysError(
            f"invalid label in the column {label.column!r}",
            where=f"{path}, data row {first_row + row}",
            expected=_describe(label.rule),
            got=repr(frame["x"][row]),
            fix="correct the value, or change label.rule",
        )
    return checked["label"]


def _describe(rule: Binary | Threshold | OneOf) -> str:
    match rule:
        case Threshold():
            return f"a number (at least {rule.positive:g}: 1, at most {rule.negative:g}: 0)"
        case OneOf():
            return f"one of {', '.join(rule.positive + rule.negative)}"
    return "0 or 1"
