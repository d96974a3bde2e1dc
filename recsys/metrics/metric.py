"""What an entry of the list METRICS is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from numpy.typing import ArrayLike

from recsys.metrics.predictions import Interval


class Measured(NamedTuple):
    """A value with what a report says beside it; `facts` by the suffix of their key."""

    value: float | None
    ci95: Interval | None = None
    facts: Mapping[str, float | str | None] = {}


@dataclass(frozen=True)
class Metric:
    """One number of a set of predictions: how it is computed, compared and shown.

    Attributes:
        name: its key in report.json, in metrics.csv (`valid/<name>`) and for `train.monitor`.
        title: its name in a sentence.
        definition: one or two sentences for the report's page.
        compute: (logits, labels) → the value, None if it is not defined for these rows. Logits and
            labels are of shape (n,), and so are the group ids, a third argument if `needs_groups`.
        better: which values are better, for `train.monitor`.
        requires: the rows that it is defined for, to say so in messages.
        note: what the page writes below the value, such as its unit. A function gets the split's
            part of report.json.
        digits: decimal places on the page and the console.
        needs_groups: whether it is of the dataset's groups; without groups it is None.
        at_validation: whether each validation computes it, even if it is not monitored.
        measure: as `compute`, with an interval and facts; for reports.
    """

    name: str
    title: str
    definition: str
    compute: Callable[..., float | None]
    better: Literal["higher", "lower", "near 1"]
    requires: str = "at least one row"
    note: str | Callable[[Mapping[str, Any]], str] = ""
    digits: int = 4
    needs_groups: bool = False
    at_validation: bool = False
    measure: Callable[..., Measured] | None = None

    def value(
        self, logits: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None
    ) -> float | None:
        """The metric of these rows; None if it is not defined for them."""
        if not self.needs_groups:
            return self.compute(logits, labels)
        return None if groups is None else self.compute(logits, labels, groups)

    def figures(
        self, logits: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None
    ) -> dict[str, Any]:
        """What report.json says of it: the value, and `<name>_ci95` and facts if it has them."""
        if self.measure is None or (self.needs_groups and groups is None):
            return {self.name: self.value(logits, labels, groups)}
        columns = (logits, labels, groups) if self.needs_groups else (logits, labels)
        value, ci95, facts = self.measure(*columns)
        named = {f"{self.name}_{key}": fact for key, fact in facts.items()}
        return {self.name: value, f"{self.name}_ci95": ci95, **named}

    def goodness(self, value: float) -> float:
        """The value on a scale on which higher is better."""
        if self.better == "near 1":
            return -abs(value - 1.0)
        return value if self.better == "higher" else -value
