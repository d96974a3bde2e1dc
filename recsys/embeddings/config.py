"""The `embeddings:` section: how each feature is embedded."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from recsys.config.base import BaseConfig
from recsys.config.byte_sizes import parse_bytes
from recsys.config.name_patterns import is_wildcard, matching_key, names_matching
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.old_keys import with_new_keys
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.errors import RecsysError, did_you_mean
from recsys.schema import Feature, Schema


def _size(value: object) -> str | None:
    """A size as it was written; refused if it cannot be parsed."""
    if value is None:
        return None
    parse_bytes(str(value), "embeddings.budget")
    return str(value)


class FeatureConfig(BaseConfig):
    """Settings of one feature, or of all that a wildcard matches; each key may be left out.

    The options of `method` (`embedding_dim`, `init`, `num_buckets` …) are written beside it, in the
    same entry, and count as one setting together with it.
    """

    FLAT: ClassVar[str] = "method"

    method: MethodConfig | None = None
    """the embedding method, with its options beside this key"""
    shares_table_with: str | None = None
    """the feature whose table it reads; both must have one vocabulary. Not under a wildcard."""
    pooling: Literal["sum", "mean"] | None = None
    """how the vectors of a sequence become one; mean if not given"""
    numerical: Literal["vector", "raw"] | None = None
    """for a numerical feature: as `embeddings.numerical`"""
    placement: PlacementConfig | None = None
    """how its tables may be sharded over several devices, and in which memory they are kept"""

    @model_validator(mode="before")
    @classmethod
    def _nest_method(cls, entry: object) -> object:
        """Puts the keys of the method, which are written flat, under `method`."""
        if not isinstance(entry, dict) or isinstance(entry.get("method"), BaseModel):
            return entry
        own = cls.model_fields.keys() - {"method"}
        options = {key: value for key, value in entry.items() if key not in own}
        if entry.get("method") is None and "embedding_dim" not in options:
            return entry
        return {"method": options} | {key: entry[key] for key in own & entry.keys()}

    @model_serializer(mode="wrap")
    def _flat(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The keys as they are written in YAML."""
        content = write(self)
        given = {key: value for key, value in content.items() if value is not None}
        return given.pop("method", {}) | given


class RoleConfig(BaseConfig):
    """Second embeddings of the features in a model's pairs, for one role in it (DARE, §4.1).

    Histories share tables as they do in `embeddings.features`.
    """

    default: MethodConfig
    """the method of features without an entry"""
    features: dict[str, MethodConfig] = {}
    """methods by feature name or wildcard, as in `embeddings.features`"""
    learning_rate: PositiveFloat | None = None
    """of these tables; null: that of `train.embedding_optimizer`"""


class EmbeddingsConfig(BaseConfig):
    """The embedding of every feature: a default, and what differs from it.

    `features` has an entry by feature name or wildcard (`C*`). Each setting of a feature is looked
    up by itself: in the entry of its exact name, else in the first wildcard that matches and gives
    this setting, else the default. So `{"C*": {method: …}, C3: {pooling: sum}}` leaves C3 the
    method of `C*`. A method and its options are one setting.
    """

    default: MethodConfig
    """the method of features whose entries give none"""
    features: dict[str, FeatureConfig] = {}
    """settings by feature name or wildcard"""
    numerical: Literal["vector", "raw"] = "vector"
    """vector: value × a learned vector of the default width. raw: the value itself."""
    roles: dict[str, RoleConfig] = {}
    """second embeddings, by the role that a model asks for: `search` in dare"""
    store: Literal["fused", "plain"] = "fused"
    """fused: torchrec with fbgemm, tables updated inside backward. plain: PyTorch alone."""
    budget: Annotated[str | None, BeforeValidator(_size)] = None
    """bytes of all embeddings, such as 64MB; a config that takes more is refused before training"""
    budget_of: Literal["serve", "train"] = "serve"
    """serve: bytes as exported. train: with padding and the state of the optimizers."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, content: object) -> object:
        return with_new_keys(content) if isinstance(content, dict) else content

    @property
    def budget_bytes(self) -> int | None:
        return None if self.budget is None else parse_bytes(self.budget, "embeddings.budget")

    @property
    def shared_tables(self) -> dict[str, str]:
        """Feature → the feature whose table it reads, for those that read another one's."""
        return {
            name: entry.shares_table_with
            for name, entry in self.features.items()
            if entry.shares_table_with is not None
        }

    @property
    def has_placement(self) -> bool:
        return any(entry.placement is not None for entry in self.features.values())

    def with_features(self, changes: Mapping[str, Mapping[str, object]]) -> Self:
        """The same config with settings of some features changed: `{"C3": {"pooling": "sum"}}`."""
        changed = {
            name: self.features.get(name, FeatureConfig()).model_copy(update=dict(update))
            for name, update in changes.items()
        }
        return self.model_copy(update={"features": {**self.features, **changed}})

    def check_names(self, schema: Schema) -> None:
        """Refuses names, wildcards and settings that no feature of the dataset can have."""
        sparse = [f.name for f in schema.sparse]
        numerical = [f.name for f in schema.numerical]
        for pattern, entry in self.features.items():
            where = f"embeddings.features.{pattern}"
            _check_pattern(where, pattern, [*sparse, *numerical])
            for key in FeatureConfig.model_fields:
                known = numerical if key == "numerical" else sparse
                if getattr(entry, key) is not None and not names_matching(pattern, known):
                    kind = "numerical features" if key == "numerical" else "features of ids"
                    raise RecsysError(
                        f"{key} applies to {kind} only",
                        where=where,
                        expected=", ".join(known) or f"a dataset with {kind}",
                    )
        for reader, owner in self.shared_tables.items():
            where = f"embeddings.features.{reader}.shares_table_with"
            if is_wildcard(reader) and reader not in sparse:
                raise RecsysError(
                    "a wildcard cannot share a table", where=where, fix="name each feature"
                )
            _check_pattern(where, owner, sparse)
            self._check_shared(schema.feature(reader), schema.feature(owner))

    def _check_shared(self, reader: Feature, owner: Feature) -> None:
        entry = f"embeddings.features.{reader.name}"
        where = f"{entry}.shares_table_with"
        if owner.name in self.shared_tables:
            raise RecsysError(
                f"{owner.name} shares the table of another feature itself",
                where=where,
                fix=f"set it to {self.shared_tables[owner.name]!r}",
            )
        if reader.encoding != owner.encoding or reader.cardinality != owner.cardinality:
            raise RecsysError(
                f"{reader.name} cannot read {owner.name}'s table: their ids mean different values",
                where=where,
                expected="two features of one vocabulary",
                got=f"{reader.name}: {reader.cardinality} ids, {owner.name}: {owner.cardinality}",
                fix="prepare the data with `shared_vocabulary`, or remove this key",
            )
        own, owners = self.features[reader.name].method, self.method_of(owner.name)
        if own is not None and own != owners:
            raise RecsysError(
                f"{reader.name} has another method than {owner.name}, whose table it reads",
                where=f"{entry}.method",
                expected=f"{owner.name}'s: {owners.method}, embedding_dim {owners.embedding_dim}",
                got=f"{own.method}, embedding_dim {own.embedding_dim}",
                fix=f"remove the method of {reader.name}, or {where}",
            )

    def for_role(self, role: str, features: Sequence[str]) -> "EmbeddingsConfig | None":
        """The embeddings of these features for one role; None if the config has none for it."""
        chosen = self.roles.get(role)
        if chosen is None or not features:
            return None
        for pattern in chosen.features:
            _check_pattern(f"embeddings.roles.{role}.features.{pattern}", pattern, features)
        entries = {key: FeatureConfig(method=method) for key, method in chosen.features.items()}
        shared = {
            reader: {"shares_table_with": owner}
            for reader, owner in self.shared_tables.items()
            if reader in features and owner in features
        }
        return EmbeddingsConfig(default=chosen.default, features=entries).with_features(shared)

    def _key(self, feature: str, setting: str) -> str | None:
        """The name or wildcard whose entry gives a feature this setting."""
        giving = [key for key, e in self.features.items() if getattr(e, setting) is not None]
        return matching_key(feature, giving)

    def _setting(self, feature: str, setting: str) -> Any:  # noqa: ANN401  each setting has a type of its own
        key = self._key(feature, setting)
        return None if key is None else getattr(self.features[key], setting)

    def method_of(self, feature: str) -> MethodConfig:
        """The method config of a sparse feature; one that shares a table takes its owner's."""
        method: MethodConfig | None = self._setting(
            self.shared_tables.get(feature, feature), "method"
        )
        return method or self.default

    def resolved_methods(self, schema: Schema) -> dict[str, BaseMethodConfig]:
        """Each sparse feature's method config, after methods have shared out their budgets.

        Features that share a table count once, as their owner.
        """
        cardinalities, shared = {f.name: f.num_ids for f in schema.sparse}, self.shared_tables
        groups: dict[str | None, list[str]] = {}
        for name in (name for name in cardinalities if name not in shared):
            groups.setdefault(self._key(name, "method"), []).append(name)
        resolved: dict[str, BaseMethodConfig] = {}
        for names in groups.values():
            method = self.method_of(names[0])
            resolved.update(method.resolve({name: cardinalities[name] for name in names}))
        return {name: resolved[shared.get(name, name)] for name in cardinalities}

    def pooling_of(self, feature: str) -> Literal["sum", "mean"]:
        pooling: Literal["sum", "mean"] | None = self._setting(feature, "pooling")
        return pooling or "mean"

    def placement_of(self, feature: str) -> PlacementConfig | None:
        placement: PlacementConfig | None = self._setting(feature, "placement")
        return placement

    def numerical_of(self, feature: str) -> Literal["vector", "raw"]:
        numerical: Literal["vector", "raw"] | None = self._setting(feature, "numerical")
        return numerical or self.numerical


def _check_pattern(where: str, pattern: str, names: Sequence[str]) -> None:
    if not names_matching(pattern, names):
        raise RecsysError(
            "no such feature in the dataset",
            where=where,
            expected=", ".join(names) or "no feature of this kind",
            got=repr(pattern),
            fix=did_you_mean(pattern, names),
        )
