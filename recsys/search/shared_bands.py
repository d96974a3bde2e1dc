"""The bands of DNIS over all features: where each band ends in each feature, by id counts."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from recsys.config.run import RunConfig
from recsys.data.statistics import count_ids
from recsys.embeddings.methods.dnis import DnisConfig
from recsys.errors import RecsysError
from recsys.schema import Schema
from recsys.search.result import searched_tables


def with_band_ends(config: RunConfig, schema: Schema) -> RunConfig:
    """The config with `band_ends` for each feature whose bands are over all features.

    Configs that already have them are not changed.
    """
    configs = {
        table.name: table.method
        for table in searched_tables(config, schema, "dnis")
        if isinstance(table.method, DnisConfig) and table.method.bands_over == "all_features"
    }
    if not configs or all(found.band_ends is not None for found in configs.values()):
        return config
    first = _only_one(configs)
    counts = count_ids(schema, config.data.path)
    ends = shared_band_ends({name: counts[name].numpy() for name in configs}, first.bands)
    changes: dict[str, dict[str, object]] = {
        name: {"method": found.model_copy(update={"band_ends": ends[name]})}
        for name, found in configs.items()
    }
    changes |= {reader: {"method": None} for reader in config.embeddings.shared_tables}
    return config.model_copy(update={"embeddings": config.embeddings.with_features(changes)})


def shared_band_ends(
    counts: Mapping[str, np.ndarray], bands: int | Sequence[float]
) -> dict[str, tuple[int, ...]]:
    """Where each band ends in each feature; `counts` (V,) by feature, ids sorted by frequency.

    All ids of all features are sorted by count, ties by feature and id, and cut by `bands`: a
    number of equal parts, or shares. Id 0 (missing, rare) is in the band of its feature's most
    frequent id.
    """
    shares = [1.0 / bands] * bands if isinstance(bands, int) else list(bands)
    falling = [np.minimum.accumulate(_with_id_0_first(count)) for count in counts.values()]
    order = np.argsort(-np.concatenate(falling), kind="stable")
    features = np.repeat(np.arange(len(falling)), [len(count) for count in falling])[order]
    ends = [round(share * len(order)) for share in accumulate(shares)]
    ends[-1] = len(order)
    return {
        name: tuple(int((features[:end] == number).sum()) for end in ends)
        for number, name in enumerate(counts)
    }


def _with_id_0_first(count: np.ndarray) -> np.ndarray:
    found = count.astype(np.float64)
    found[0] = found.max()
    return found


def _only_one(configs: Mapping[str, object]) -> DnisConfig:
    """The config that all these features have; refuses several, since factors are shared."""
    (name, first), *others = configs.items()
    assert isinstance(first, DnisConfig)
    for other, found in others:
        assert isinstance(found, DnisConfig)
        if _cut_of(found) != _cut_of(first):
            raise RecsysError(
                "bands over all features need the same settings for all of them",
                where=f"embeddings: {name} and {other}",
                expected=f"bands {first.bands}, {first.dim_groups or first.embedding_dim} groups "
                f"of columns, as {name} has",
                got=f"bands {found.bands}, {found.dim_groups or found.embedding_dim} groups of "
                f"columns for {other}",
                fix="give them equal bands, dim_groups and embedding_dim",
            )
    return first


def _cut_of(config: DnisConfig) -> tuple[object, int]:
    return config.bands, config.dim_groups or config.embedding_dim
