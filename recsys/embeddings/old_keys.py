"""The former keys of `embeddings`, which are read for one more release.

per_feature, pooling, placement, numerical_per_feature and shared_tables became `features`;
attention became `roles.search`.
"""

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

import yaml
from pydantic import BaseModel

from recsys.config.name_patterns import is_wildcard
from recsys.errors import RecsysError

YamlDict = dict[str, Any]
# old key → the key of a feature's entry that its values became; None: the entry itself
FIELD_OF: dict[str, str | None] = {
    "per_feature": None,
    "pooling": "pooling",
    "placement": "placement",
    "numerical_per_feature": "numerical",
    "shared_tables": "shares_table_with",
}


def has_old_keys(embeddings: object) -> bool:
    """True if an `embeddings` section, as it was read, has a key that was replaced."""
    return isinstance(embeddings, dict) and bool(_old_keys(embeddings))


def _old_keys(embeddings: YamlDict) -> list[str]:
    return [key for key in (*FIELD_OF, "attention") if embeddings.get(key)]


def with_new_keys(embeddings: YamlDict) -> YamlDict:
    """The same section with `features` and `roles`. Values that are not maps are left to pydantic.

    Raises:
        RecsysError: a feature has a setting by its old and by its new key, or wildcards overlap in
            an order that one map cannot have.
    """
    new = dict(embeddings)
    maps = {key: new.pop(key) for key in FIELD_OF if isinstance(new.get(key), Mapping)}
    if maps:
        new["features"] = _merged(maps, new.get("features") or {})
    if isinstance(new.get("attention"), Mapping):
        if "search" in (new.get("roles") or {}):
            raise _given_twice("embeddings.attention", "embeddings.roles.search")
        role = dict(new.pop("attention"))
        if "per_feature" in role:
            role["features"] = role.pop("per_feature")
        new["roles"] = {**(new.get("roles") or {}), "search": role}
    elif "attention" in new and new["attention"] is None:
        del new["attention"]
    return new


def hint(embeddings: YamlDict) -> str:
    """One line that shows the new form of a section's old keys."""
    new = with_new_keys(embeddings)
    shown = {key: new[key] for key in ("features", "roles") if key in new}
    text = yaml.safe_dump(shown, default_flow_style=True, sort_keys=False, width=10**9).strip()
    names = ", ".join(f"embeddings.{key}" for key in _old_keys(embeddings))
    return f"hint: {names}: old keys, to be removed; write embeddings: {text}"


def _merged(maps: Mapping[str, YamlDict], features: YamlDict) -> YamlDict:
    """Entries by name or wildcard, each with its values of all maps; see `_in_order`."""
    merged = {key: _entry(value) for key, value in features.items()}
    for old, values in maps.items():
        field = FIELD_OF[old]
        for name, value in values.items():
            entry = merged.setdefault(name, {})
            given = _entry(value) if field is None else {field: value}
            if not entry.keys().isdisjoint(given):
                raise _given_twice(f"embeddings.{old}.{name}", f"embeddings.features.{name}")
            entry.update(given)
    return {name: merged[name] for name in _in_order([features, *maps.values()], merged)}


def _entry(value: object) -> YamlDict:
    if isinstance(value, BaseModel):
        return {"method": value}
    return dict(value) if isinstance(value, Mapping) else {"method": value}


def _in_order(maps: Iterable[Iterable[str]], names: Iterable[str]) -> list[str]:
    """Plain names, then wildcards in an order that agrees with that of every map."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for keys in maps:
        wildcards = [key for key in keys if is_wildcard(key)]
        for key in wildcards:
            sorter.add(key)
        for first, second in pairwise(wildcards):
            sorter.add(second, first)
    try:
        ordered = list(sorter.static_order())
    except CycleError:
        raise RecsysError(
            "the old keys name the same wildcards in different orders",
            where="embeddings",
            fix="write embeddings.features by hand: the first wildcard that gives a key wins",
        ) from None
    return [name for name in names if not is_wildcard(name)] + ordered


def _given_twice(old: str, new: str) -> RecsysError:
    return RecsysError(
        "the same setting by its old and by its new key",
        where=f"{old} and {new}",
        fix=f"keep {new}",
    )
