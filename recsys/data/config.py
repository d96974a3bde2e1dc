"""DataConfig: which dataset, how large a batch, how the rows are shuffled and loaded."""

from pydantic import Field, PositiveInt

from recsys.config.base import AbsolutePath, BaseConfig
from recsys.config.name_patterns import all_matching, names_matching
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Schema, load_schema


class DataConfig(BaseConfig):
    """The rows of a run follow from path, global_batch_size, num_shards, shuffle_rows and the seed.

    `leave_out` says which columns of them. The other fields change speed and memory only.
    """

    path: AbsolutePath = Field(description="the dataset: a folder that `recsys prepare` wrote")
    global_batch_size: PositiveInt = Field(
        le=2**31 - 1, description="rows of one step, all ranks together"
    )
    leave_out: tuple[str, ...] = Field(
        default=(), description="features, by name or wildcard, that this run does not see"
    )
    num_shards: PositiveInt = Field(
        default=8,
        le=65_536,
        description="logical parts that the train rows are cut into and assigned to ranks; "
        "at least the number of ranks, best a multiple of it",
    )
    shuffle_rows: PositiveInt = Field(
        default=1_048_576,
        le=2**40,
        description="rows that are mixed with one another, all ranks together; "
        "about twice as many are in memory",
    )
    num_workers: PositiveInt = Field(
        default=2, le=256, description="background threads that decode and assemble batches"
    )
    prefetch_batches: PositiveInt = Field(
        default=8, le=65_536, description="batches made ahead of the one in use"
    )

    def load_schema(self) -> Schema:
        """The dataset's schema without the features of `leave_out`."""
        schema = load_schema(self.path)
        names = [feature.name for feature in schema.features]
        for pattern in self.leave_out:
            if not names_matching(pattern, names):
                raise RecsysError(
                    f"the dataset {schema.name!r} has no feature {pattern!r}",
                    where="data.leave_out",
                    expected=", ".join(names),
                    fix=did_you_mean(pattern, names),
                )
        kept = tuple(
            feature
            for feature in schema.features
            if feature.name not in all_matching(self.leave_out, names)
        )
        if not any(feature.kind != "numerical" for feature in kept):
            raise RecsysError(
                "no feature with ids would be left",
                where="data.leave_out",
                expected="at least one categorical or sequence feature",
                got=f"only {', '.join(f.name for f in kept) or 'the label'}",
            )
        return schema.model_copy(update={"features": kept})

    @property
    def window_rows(self) -> int:
        """Rows that are decoded and permuted together: a shard's part of `shuffle_rows`."""
        return max(1, self.shuffle_rows // self.num_shards)
