"""The columns of a log in compact form: text as codes, and item features by item."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_pipelines.encoding.encoders import FeatureEncoder
from data_pipelines.encoding.vocabulary import TextVocabulary, grown
from data_pipelines.events.layout import EventPlan
from data_pipelines.sources.keyed_table import KeyedTable

UInt32s = NDArray[np.uint32]
LISTS = pl.Struct({"x": pl.List(pl.String)})


class TextCodes:
    """Codes of texts or lists of texts, in order of first occurrence from 1; 0 if missing."""

    def __init__(self, vocabulary: TextVocabulary) -> None:
        self.vocabulary = vocabulary
        self.size = 1
        self.has_lists = False  # then each list is one text, in JSON

    def stage(self, values: pl.Series) -> UInt32s:
        """Returns the codes (rows,), uint32."""
        values = values.alias("x")  # some methods interpret the name as a pattern
        if isinstance(values.dtype, pl.List):
            self.has_lists = True
            values = pl.select(pl.struct(values).struct.json_encode()).to_series()
        codes = (self.vocabulary.stage(values) + 1).fill_null(0).to_numpy()
        self.size = max(self.size, int(codes.max(initial=0)) + 1)
        return codes

    def texts(self) -> pl.Series:
        """Returns the text of each code, null for code 0."""
        codes = pl.Series(np.arange(self.size - 1, dtype=np.uint32), dtype=pl.UInt32)
        texts = pl.concat([pl.Series([None], dtype=pl.String), self.vocabulary.texts(codes)])
        return texts.str.json_decode(LISTS).struct.field("x") if self.has_lists else texts


class LogColumns:
    """The dictionaries of a log's text columns, and the item features by item code."""

    def __init__(
        self, plan: EventPlan, encoders: list[FeatureEncoder], item_table: pl.DataFrame | None
    ) -> None:
        self.plan = plan
        self._items_table = None if item_table is None else _by_item(item_table, plan.rules.item)
        # The vocabulary of a feature is also the dictionary of its column, to save memory.
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
        """Warnings about the item table, after the log has been read."""
        table = self._items_table
        if table is None:
            return ()
        table.check_matches()
        counts, found = table.counts(), table.warnings()
        if counts.unmatched and counts.unused:
            found.append(
                f"{table.name}: {counts.unused:,} of its {counts.table_keys:,} items are not in "
                "the log"
            )
        return tuple(found)

    @property
    def item_codes(self) -> TextCodes:
        """The dictionary of items."""
        return self.codes[self.plan.rules.item]

    def stage(self, name: str, values: pl.Series) -> pl.Series:
        """Codes of a text column (uint32); numbers (float64, null if missing) unchanged."""
        return pl.Series(name, self.codes[name].stage(values)) if name in self.codes else values

    def stage_items(self, frame: pl.DataFrame) -> UInt32s:
        """The item codes of rows; features of new items are those of the table or of the row."""
        item = self.plan.rules.item
        codes = self.item_codes.stage(frame[item])
        self._is_known = grown(self._is_known, self.item_codes.size)
        first = pl.DataFrame({"code": codes, "row": np.arange(len(codes))})
        first = first.filter(pl.Series(~self._is_known[codes])).unique("code", keep="first")
        self._is_known[first["code"].to_numpy()] = True
        if not self.plan.item_columns or not len(first):
            return codes
        values = frame[first.sort("row")["row"]]
        if self._items_table is not None:
            values = self._items_table.join(values)
        new_codes = first.sort("row")["code"].to_numpy()
        for name, stored in self.items.items():
            stored = grown(stored, self.item_codes.size)
            stored[new_codes] = self.stage(name, values[name]).to_numpy()
            self.items[name] = stored
        return codes

    def item_values(self, name: str) -> pl.Series:
        """The staged values of an item column by item code; those of the item are the codes."""
        if name == self.plan.rules.item:
            return pl.Series(name, np.arange(self.item_codes.size, dtype=np.uint32))
        values = grown(self.items[name], self.item_codes.size)[: self.item_codes.size]
        return pl.Series(name, values, nan_to_null=True)


def _by_item(table: pl.DataFrame, item: str) -> KeyedTable:
    columns = pl.DataFrame([column for column in table if column.name != item])
    setting = "events.items.item"
    return KeyedTable("item table", (item,), [table[item]], columns, "items", setting)
