"""How long the sequences of the train rows are."""

from pathlib import Path

import pyarrow.parquet as pq

from recsys.data.readable import readable
from recsys.io.paths import file_inside
from recsys.schema import Schema


def mean_lengths(schema: Schema, dataset_dir: Path) -> dict[str, float]:
    """Ids that a train row has, by sequence feature; nothing for files that are not there.

    From the files' footers: a row without any counts as one id.
    """
    names = {feature.name for feature in schema.of_kind("sequence")}
    counts = dict.fromkeys(names, 0)
    rows = 0
    for file in schema.split("train").files if names else ():
        path = dataset_dir / file.path
        if not path.exists():
            return {}
        with readable(path):
            footer = pq.read_metadata(file_inside(dataset_dir, file.path))
        rows += footer.num_rows
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                column = footer.row_group(group).column(number)
                name = column.path_in_schema.split(".")[0]
                if name in names:
                    counts[name] += column.num_values
    return {name: count / rows for name, count in counts.items() if rows}
