"""The values of a log as compact columns: texts as codes, and one row of values for each item."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import FeatureEncoder
from data_pipelines.encoding.vocabulary import TextVocabulary, grown
from data_pipelines.events.item_matching import ItemMatching
from data_pipelines.events.plan import EventPlan

UInt32s = NDArray[np.uint32]
LISTS = pl.Struct({"x": pl.List(pl.String)})


class TextCodes:
    """Texts, or lists of texts, as codes in order of first appearance, from 1; 0 is missing."""

    def __init__(self, vocabulary: TextVocabulary) -> None:
        self.vocabulary = vocabulary
        self.size = 1
        self.has_lists = False  # each list is then one text, in JSON

    def stage(self, values: pl.Series) -> UInt32s:
        """The codes, (rows,) uint32."""
        values = values.alias("x")  # some methods take the name for a pattern
        if isinstance(values.dtype, pl.List):
            self.has_lists = True
            values = pl.select(pl.struct(values).struct.json_encode()).to_series()
        codes = (self.vocabulary.stage(values) + 1).fill_null(0).to_numpy()
        self.size = max(self.size, int(codes.max(initial=0)) + 1)
        return codes

    def texts(self) -> pl.Series:
        """The text of each code, null for code 0."""
        codes = pl.Series(np.arange(self.size - 1, dtype=np.uint32), dtype=pl.UInt32)
        texts = pl.concat([pl.Series([None], dtype=pl.String), self.vocabulary.texts(codes)])
        return texts.str.json_decode(LISTS).struct.field("x") if self.has_lists else texts


class LogColumns:
    """The dictionaries of a log's text columns, and the items' values by item code."""

    def __init__(
        self, plan: EventPlan, encoders: list[FeatureEncoder], item_table: pl.DataFrame | None
    ) -> None:
        self.plan = plan
        self.matching = None if item_table is None else ItemMatching(item_table, plan.rules.item)
        # A feature's vocabulary is its column's dictionary too, so that no text is kept twice.
        vocabularies = {
            e.feature.column: e.ids
            for e in encoders
            if e.feature.kind == "categorical" and isinstance(e.ids, TextVocabulary) and e.owns_ids
        }
        self.codes = {
            name: TextCodes(vocabularies.get(name) or TextVocabulary())
            for name in (plan.rules.item, *plan.item_columns, *plan.event_columns)
            if plan.dtypes[name] == pl.String
        }
        self.items: dict[str, NDArray[np.generic]] = {
            name: np.zeros(1, np.uint32 if name in self.codes else np.float64)
            for name in plan.item_columns
        }
        self._is_known = np.ones(1, np.bool_)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know of the item table, once the log has been read."""
        if self.matching is None:
            return ()
        self.matching.check_matches()
        return tuple(self.matching.warnings())

    @property
    def item_codes(self) -> TextCodes:
        """The items' dictionary."""
        return self.codes[self.plan.rules.item]

    def stage(self, name: str, values: pl.Series) -> pl.Series:
        """Codes of a text column (uint32); numbers (float64, null missing) as they are."""
        return pl.Series(name, self.codes[name].stage(values)) if name in self.codes else values

    def stage_items(self, frame: pl.DataFrame) -> UInt32s:
        """The rows' item codes; new items take their values from the table or from this row."""
        item = self.plan.rules.item
        codes = self.item_codes.stage(frame[item])
        self._is_known = grown(self._is_known, self.item_codes.size)
        first = pl.DataFrame({"code": codes, "row": np.arange(len(codes))})
        first = first.filter(pl.Series(~self._is_known[codes])).unique("code", keep="first")
        self._is_known[first["code"].to_numpy()] = True
        if not self.plan.item_columns or not len(first):
            return codes
        values = frame[first.sort("row")["row"]]
        if self.matching is not None:
            values = self.matching.join(values)
        new_codes = first.sort("row")["code"].to_numpy()
        for name, stored in self.items.items():
            stored = grown(stored, self.item_codes.size)
            stored[new_codes] = self.stage(name, values[name]).to_numpy()
            self.items[name] = stored
        return codes

    def item_values(self, name: str) -> pl.Series:
        """The staged values of an item column by item code; the item's own are its codes."""
        if name == self.plan.rules.item:
            return pl.Series(name, np.arange(self.item_codes.size, dtype=np.uint32))
        values = grown(self.items[name], self.item_codes.size)[: self.item_codes.size]
        return pl.Series(name, values, nan_to_null=True)
