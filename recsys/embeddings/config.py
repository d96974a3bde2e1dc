"""The `embeddings:` section: which method embeds which feature."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, PositiveFloat

from recsys.config.base import BaseConfig
from recsys.config.byte_sizes import parse_bytes
from recsys.config.name_patterns import names_matching
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Feature, Schema


def _size(value: object) -> str | None:
    """A size as it was written, which can be read."""
    if value is None:
        return None
    parse_bytes(str(value), "embeddings.budget")
    return str(value)


class AttentionConfig(BaseConfig):
    """Second embeddings of the features in a model's pairs, for attention alone (DARE, §4.1).

    `per_feature` is keyed as above. Histories share tables as they do in `embeddings`.
    """

    default: MethodConfig
    per_feature: dict[str, MethodConfig] = {}
    # of these tables; null: as train.embedding_optimizer says
    learning_rate: PositiveFloat | None = None


class EmbeddingsConfig(BaseConfig):
    """A default, and what differs from it.

    `per_feature`, `numerical_per_feature`, `pooling` and `placement` are keyed by feature names or
    wildcards (`C*`); an exact name wins, then the first wildcard that matches.
    """

    default: MethodConfig
    per_feature: dict[str, MethodConfig] = {}
    # feature → the feature whose table it reads; both must have the same vocabulary
    shared_tables: dict[str, str] = {}
    # vector: value × a learned vector of the default width. raw: the value itself.
    numerical: Literal["vector", "raw"] = "vector"
    numerical_per_feature: dict[str, Literal["vector", "raw"]] = {}
    # how a sequence feature's vectors become one
    pooling: dict[str, Literal["sum", "mean"]] = {}
    # for models whose attention compares other vectors than those that it sums
    attention: AttentionConfig | None = None
    # fused: torchrec + fbgemm, updated inside backward. plain: PyTorch, any optimiser, the oracle.
    store: Literal["fused", "plain"] = "fused"
    # on several devices: how a feature's tables may be sharded, and in which memory they lie
    placement: dict[str, PlacementConfig] = {}
    # what all features may take, such as 64MB; a config that takes more is refused before training
    budget: Annotated[str | None, BeforeValidator(_size)] = None
    # serve: as exported. train: with padding and the optimisers' state
    budget_of: Literal["serve", "train"] = "serve"

    @property
    def budget_bytes(self) -> int | None:
        return None if self.budget is None else parse_bytes(self.budget, "embeddings.budget")

    def check_names(self, schema: Schema) -> None:
        """Every name and wildcard must mean a feature of the data set."""
        sparse = [f.name for f in schema.sparse]
        numerical = [f.name for f in schema.numerical]
        _check_patterns("embeddings.per_feature", self.per_feature, sparse)
        _check_patterns("embeddings.pooling", self.pooling, sparse)
        _check_patterns("embeddings.placement", self.placement, sparse)
        _check_patterns("embeddings.numerical_per_feature", self.numerical_per_feature, numerical)
        for reader, owner in self.shared_tables.items():
            _check_patterns("embeddings.shared_tables", [reader, owner], sparse)
            self._check_shared(schema.feature(reader), schema.feature(owner))

    def _check_shared(self, reader: Feature, owner: Feature) -> None:
        where = f"embeddings.shared_tables.{reader.name}"
        if owner.name in self.shared_tables:
            raise RecsysError(
                f"{owner.name} shares the table of another feature itself",
                where=where,
                fix=f"point {reader.name} at {self.shared_tables[owner.name]!r}",
            )
        if reader.encoding != owner.encoding or reader.cardinality != owner.cardinality:
            raise RecsysError(
                f"{reader.name} cannot read {owner.name}'s table: their ids mean different values",
                where=where,
                expected="two features of one vocabulary",
                got=f"{reader.name}: {reader.cardinality} ids, {owner.name}: {owner.cardinality}",
                fix="prepare the data with `shared_vocabulary`, or drop this line",
            )
        own, owners = self.per_feature.get(reader.name), self.method_of(owner.name)
        if own is not None and own != owners:
            raise RecsysError(
                f"{reader.name} has another method than {owner.name}, whose table it reads",
                where=f"embeddings.per_feature.{reader.name}",
                expected=f"{owner.name}'s: {owners.method}, embedding_dim {owners.embedding_dim}",
                got=f"{own.method}, embedding_dim {own.embedding_dim}",
                fix=f"drop this entry, or {where}",
            )

    def for_attention(self, features: Sequence[str]) -> "EmbeddingsConfig | None":
        """The same for attention's embeddings of these features; None where it has none."""
        if self.attention is None or not features:
            return None
        _check_patterns("embeddings.attention.per_feature", self.attention.per_feature, features)
        shared = {
            reader: owner
            for reader, owner in self.shared_tables.items()
            if reader in features and owner in features
        }
        return EmbeddingsConfig(
            default=self.attention.default,
            per_feature=self.attention.per_feature,
            shared_tables=shared,
        )

    def method_of(self, feature: str) -> MethodConfig:
        """The method config of a sparse feature; one that shares a table takes its owner's."""
        owner = self.shared_tables.get(feature, feature)
        key = matching_key(owner, self.per_feature)
        return self.default if key is None else self.per_feature[key]

    def resolved_methods(self, schema: Schema) -> dict[str, BaseMethodConfig]:
        """Each sparse feature's method config, after methods have shared out their budgets.

        Features that share a table count once, as their owner.
        """
        cardinalities = {f.name: f.num_ids for f in schema.sparse}
        owners = [name for name in cardinalities if name not in self.shared_tables]
        groups: dict[str | None, list[str]] = {}
        for name in owners:
            groups.setdefault(matching_key(name, self.per_feature), []).append(name)
        resolved: dict[str, BaseMethodConfig] = {}
        for names in groups.values():
            method = self.method_of(names[0])
            resolved.update(method.resolve({name: cardinalities[name] for name in names}))
        return {name: resolved[self.shared_tables.get(name, name)] for name in cardinalities}

    def pooling_of(self, feature: str) -> Literal["sum", "mean"]:
        key = matching_key(feature, self.pooling)
        return "mean" if key is None else self.pooling[key]

    def placement_of(self, feature: str) -> PlacementConfig | None:
        key = matching_key(feature, self.placement)
        return None if key is None else self.placement[key]

    def numerical_of(self, feature: str) -> Literal["vector", "raw"]:
        key = matching_key(feature, self.numerical_per_feature)
        return self.numerical if key is None else self.numerical_per_feature[key]


def matching_key(name: str, patterns: Mapping[str, object]) -> str | None:
    """The key that speaks of `name`: itself, else the first wildcard that matches."""
    if name in patterns:
        return name
    return next((p for p in patterns if fnmatch.fnmatchcase(name, p)), None)


def _check_patterns(section: str, patterns: Iterable[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not names_matching(pattern, names):
            raise RecsysError(
                f"{section} speaks of {pattern!r}, which the data set does not have",
                expected=", ".join(names) or "no feature of this kind",
                fix=did_you_mean(pattern, names),
            )
