"""DataConfig: which data set, how large a batch, how the rows are shuffled and loaded."""

from pathlib import Path

from pydantic import Field, PositiveInt

from recsys.base_config import BaseConfig


class DataConfig(BaseConfig):
    """The rows of a run follow from path, global_batch_size, num_shards, shuffle_rows and the seed.

    The other fields change speed and memory only.
    """

    path: Path = Field(description="the data set: a folder that `recsys prepare` wrote")
    global_batch_size: PositiveInt = Field(description="rows of one step, all ranks together")
    num_shards: PositiveInt = Field(
        default=8,
        description="logical parts that the train rows are cut into and dealt to the ranks; "
        "at least the number of ranks, best a multiple of it",
    )
    shuffle_rows: PositiveInt = Field(
        default=1_048_576,
        description="rows that are mixed with one another, all ranks together; "
        "about twice as many are in memory",
    )
    num_workers: PositiveInt = Field(
        default=2, description="background threads that decode and assemble batches"
    )
    prefetch_batches: PositiveInt = Field(
        default=8, description="batches made ahead of the one in use"
    )

    @property
    def window_rows(self) -> int:
        """Rows that are decoded and permuted together: a shard's part of `shuffle_rows`."""
        return max(1, self.shuffle_rows // self.num_shards)
