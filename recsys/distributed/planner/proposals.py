"""The planner's proposers: torchrec's, in a fixed order, and one for tables of unequal sizes."""

from collections.abc import Iterator

from recsys.compat.torchrec_planner import (
    EmbeddingEnumerator,
    GreedyProposer,
    GridSearchProposer,
    Proposer,
    ShardingOption,
    Topology,
    UniformProposer,
)

MAX_GRID = 300
REPLICATED = "data_parallel"
LIGHTEST = "lightest"


class OrderedEnumerator(EmbeddingEnumerator):
    """Sorts the options: torchrec iterates over sets, whose order differs between processes."""

    def enumerate(self, *args: object, **kwargs: object) -> list[ShardingOption]:
        options = super().enumerate(*args, **kwargs)
        return sorted(
            options, key=lambda o: (table_index(o.name), o.sharding_type, o.compute_kernel)
        )


def table_index(name: str) -> int:
    """The number in the name of table `t{index}`."""
    return int(name.removeprefix("t"))


class SmallestReplicated(Proposer):
    """Replicates the k smallest tables and shards all others in one way, for each k and each way.

    If tables differ by orders of magnitude, the best plan is often one of these; torchrec's own
    proposers, which start from the fastest option of each table, miss it. The last way is, table
    by table, the one with the smallest load on a device. `most` limits k.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def load(
        self, search_space: list[ShardingOption], enumerator: EmbeddingEnumerator | None = None
    ) -> None:
        by_table: dict[str, list[ShardingOption]] = {}
        for option in sorted(search_space, key=step_milliseconds):
            by_table.setdefault(option.name, []).append(option)
        tables = sorted(by_table.values(), key=lambda options: options[0].tensor.numel())
        most = len(tables) if self.most is None else self.most
        ways = sorted({o.sharding_type for o in search_space} - {REPLICATED})
        self.proposals: Iterator[list[ShardingOption]] = (
            [_first(o, REPLICATED if i < k else way) for i, o in enumerate(tables)]
            for way in (*ways, LIGHTEST)
            for k in range(most + 1)
        )
        self.proposal = next(self.proposals, None)

    def propose(self) -> list[ShardingOption] | None:
        return self.proposal

    def feedback(
        self,
        partitionable: bool,
        plan: list[ShardingOption] | None = None,
        perf_rating: float | None = None,
        storage_constraint: Topology | None = None,
    ) -> None:
        self.proposal = next(self.proposals, None)


def proposers(*, is_quick: bool) -> list[Proposer]:
    """New proposers, in the order that breaks ties; quick.

    Enough to tell whether the tables fit.
    """
    if is_quick:
        return [SmallestReplicated(most=0)]
    return [
        GridSearchProposer(MAX_GRID),
        SmallestReplicated(),
        GreedyProposer(),
        GreedyProposer(use_depth=False),
        UniformProposer(),
    ]


def step_milliseconds(option: ShardingOption) -> float:
    """Torchrec's estimate of the option's slowest shard: forward, backward, communication."""
    return max(shard.perf.total for shard in option.shards)


def _first(options: list[ShardingOption], way: str) -> ShardingOption:
    if way == LIGHTEST:
        return min(options, key=_heaviest_shard)
    return next((o for o in options if o.sharding_type == way), options[0])


def _heaviest_shard(option: ShardingOption) -> int:
    return max(shard.storage.hbm + shard.storage.ddr for shard in option.shards)
