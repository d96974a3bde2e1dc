"""`plan_run`; if tables do not fit: by how much, the largest features, changes that help.

Every suggestion is tried: it is printed only if the planner finds a plan with it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import yaml

from recsys.config.byte_sizes import format_bytes
from recsys.config.run import RunConfig
from recsys.distributed.planner.cluster import Cluster
from recsys.distributed.planner.dry_run import DryRun
from recsys.distributed.planner.planner import DoesNotFitError, FoundPlan, find_plan
from recsys.embeddings.methods import MethodConfig
from recsys.embeddings.methods.base import BaseMethodConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.methods.hashed import HashedConfig
from recsys.embeddings.tables.placement import PlacementConfig
from recsys.errors import RecsysError
from recsys.schema import Schema

LARGEST_SHOWN = 5
LINES_SHOWN = 4
DOUBLINGS = 12
BISECTIONS = 8
CACHE_LOAD_FACTOR = 0.1
MOST_DEVICES = 1024
MORE_NODES_TRIED = 8
MOST_FEATURES = 8
LEAST_PARTS_KEPT = (0.25, 0.02)  # rather several features than one reduced to almost nothing

# run, feature, part of its bytes to keep → the edited run and its config line, "" if there is none
Edit = Callable[[DryRun, str, float], tuple[DryRun, str]]


class Suggestion(NamedTuple):
    """Config lines to change, and their effect."""

    lines: tuple[str, ...]
    effect: str


def explain(run: DryRun) -> RecsysError:
    """The error for a run whose tables do not fit."""
    cluster = run.cluster
    needed = _bytes_needed(run)
    devices = f"{cluster.world_size} × {cluster.device_type}"
    if needed is None:
        return RecsysError(
            f"no plan places the tables on {devices}, however much memory there is",
            where="embeddings.features: placement",
            fix="give the planner more to choose from: drop or widen a placement",
        )
    missing = needed - cluster.table_bytes
    suggestions = list(_remedies(run, missing * cluster.world_size))
    return RecsysError(
        f"the tables do not fit on {devices}: {format_bytes(missing)} are missing on each, "
        f"{format_bytes(missing * cluster.world_size)} in all",
        expected=f"at most {format_bytes(cluster.table_bytes)} on each "
        f"({1 - cluster.reserved_share:.0%} of its memory; the rest is the network's)",
        got=f"{format_bytes(needed)} with tables, optimizer state and a step's buffers"
        + _largest(run),
        fix="any of these (each was checked with the planner)"
        + "".join(map(_paragraph, suggestions))
        if suggestions
        else "more or larger devices",
    )


def _largest(run: DryRun) -> str:
    sizes = run.feature_bytes()
    lines = ["; the largest features:"]
    for feature, size in list(sizes.items())[:LARGEST_SHOWN]:
        method = run.config.embeddings.method_of(feature)
        ids = f"{run.schema.feature(feature).num_ids:,} ids"
        lines.append(
            f"    {feature:<12} {format_bytes(size):>8}  {method.method}, {ids}, "
            f"embedding_dim {method.embedding_dim}"
        )
    rest = list(sizes.values())[LARGEST_SHOWN:]
    if rest:
        lines.append(f"    {len(rest)} others   {format_bytes(sum(rest)):>8}")
    return "\n".join(lines)


def _paragraph(remedy: Suggestion) -> str:
    shown = [f"\n      {line}" for line in remedy.lines[:LINES_SHOWN]]
    if len(remedy.lines) > LINES_SHOWN:
        shown.append(f"\n      … and likewise for the next {len(remedy.lines) - LINES_SHOWN}")
    return f"\n    {remedy.effect}:{''.join(shown)}"


def _bytes_needed(run: DryRun) -> int | None:
    """The smallest memory for tables on each rank for which the planner finds a plan, to 1 %."""
    field = "hbm_bytes" if run.cluster.device_type == "cuda" else "host_bytes"
    low = getattr(run.cluster, field)
    high = next(
        (
            h
            for h in (low << n for n in range(1, DOUBLINGS))
            if run.with_cluster(**{field: h}).fits()
        ),
        None,
    )
    if high is None:
        return None
    low = high // 2
    for _ in range(BISECTIONS):
        middle = (low + high) // 2
        if run.with_cluster(**{field: middle}).fits():
            high = middle
        else:
            low = middle
    return run.cluster.model_copy(update={field: high}).table_bytes


def _remedies(run: DryRun, missing: int) -> Iterator[Suggestion]:
    narrower = _on_largest(run, missing, "narrower vectors", _narrower)
    if narrower is None or len(narrower.lines) == len(run.feature_bytes()):
        narrower = _all_narrower(run, missing) or narrower
    candidates = (
        narrower,
        _on_largest(run, missing, "fewer rows, by hashing", _hashed),
        _on_host(run, missing),
        _more_devices(run),
    )
    yield from (remedy for remedy in candidates if remedy is not None)


def _on_largest(run: DryRun, missing: int, title: str, edit: Edit) -> Suggestion | None:
    """Applies the edit to as few of the largest features as needed."""
    sizes = run.feature_bytes()
    counts = range(1, min(len(sizes), MOST_FEATURES) + 1)
    for least, count in itertools.product(LEAST_PARTS_KEPT, counts):
        chosen = list(sizes)[:count]
        kept = 1 - missing / sum(sizes[feature] for feature in chosen)
        for part in (kept * 0.98, kept * 0.9, kept * 0.8):
            edited, lines = _edit_all(run, chosen, edit, part)
            if part >= least and all(lines) and edited.has_valid_model() and edited.fits():
                return Suggestion(lines, f"{title}, which saves {_saved(run, edited)}")
    return None


def _edit_all(
    run: DryRun, features: Sequence[str], edit: Edit, part: float
) -> tuple[DryRun, tuple[str, ...]]:
    lines = []
    for feature in features:
        run, line = edit(run, feature, part)
        lines.append(line)
    return run, tuple(lines)


def _narrower(run: DryRun, feature: str, part: float) -> tuple[DryRun, str]:
    method = run.config.embeddings.method_of(feature)
    dim = max(4, int(method.embedding_dim * part) // 4 * 4)
    if dim >= method.embedding_dim:
        return run, ""
    return _with_method(run, feature, method.model_copy(update={"embedding_dim": dim}))


def _hashed(run: DryRun, feature: str, part: float) -> tuple[DryRun, str]:
    method: BaseMethodConfig = run.config.embeddings.method_of(feature)
    if isinstance(method, HashedConfig):
        if method.num_buckets is None:  # shares out `total_rows`
            return run, ""
        rows = _two_digits(method.num_buckets * part)
        return _with_method(run, feature, method.model_copy(update={"num_buckets": rows}))
    if not isinstance(method, FullTableConfig):
        return run, ""
    rows = _two_digits(run.schema.feature(feature).num_ids * part)
    kept = {"embedding_dim": method.embedding_dim, "init": method.init}
    return _with_method(run, feature, HashedConfig.model_validate({**kept, "num_buckets": rows}))


def _with_method(run: DryRun, feature: str, method: MethodConfig) -> tuple[DryRun, str]:
    config = run.config.embeddings
    owner = config.shared_tables.get(feature, feature)
    edited = config.with_features({owner: {"method": method}})
    shown = {"method": method.method, **method.model_dump(mode="json", exclude_defaults=True)}
    return run.with_embeddings(edited), f"embeddings.features.{owner}: {_flow(shown)}"


def _all_narrower(run: DryRun, missing: int) -> Suggestion | None:
    """One smaller width for all features, for models that need equal widths."""
    config = run.config.embeddings
    part = 1 - missing / sum(run.feature_bytes().values())
    start = int(config.default.embedding_dim * part) // 4 * 4
    for dim in range(start, 0, -4):
        width = {"embedding_dim": dim}
        own = {name: e.method for name, e in config.features.items() if e.method is not None}
        narrow = {name: {"method": m.model_copy(update=width)} for name, m in own.items()}
        default = config.default.model_copy(update=width)
        changed = config.with_features(narrow).model_copy(update={"default": default})
        edited = run.with_embeddings(changed)
        if edited.has_valid_model() and edited.fits():
            places = ("default", *(f"features.{name}" for name in own))
            lines = tuple(f"embeddings.{place}.embedding_dim: {dim}" for place in places)
            return Suggestion(lines, f"narrower vectors, which saves {_saved(run, edited)}")
    return None


def _on_host(run: DryRun, missing: int) -> Suggestion | None:
    """The largest tables in the host's memory, with a cache on the device."""
    if run.cluster.device_type == "cpu":
        return None
    sizes = run.feature_bytes()
    placement = PlacementConfig(kernel="uvm_caching", cache_load_factor=CACHE_LOAD_FACTOR)
    for count in range(1, len(sizes) + 1):
        moved = list(sizes)[:count]
        if sum(sizes[feature] for feature in moved) < missing:
            continue
        config = run.config.embeddings
        owners = dict.fromkeys(config.shared_tables.get(f, f) for f in moved)
        placements = {owner: {"placement": placement} for owner in owners}
        if run.with_embeddings(config.with_features(placements)).fits():
            shown = _flow(placement.model_dump(mode="json", exclude_none=True))
            lines = tuple(f"embeddings.features.{owner}.placement: {shown}" for owner in owners)
            return Suggestion(lines, "tables in the host's memory, which makes steps slower")
    return None


def _more_devices(run: DryRun) -> Suggestion | None:
    """The smallest number of such nodes on which the tables fit."""
    cluster = run.cluster
    whole = sum(run.feature_bytes().values())
    per_node = cluster.devices_per_node
    least = max(cluster.num_nodes + 1, whole // (cluster.table_bytes * per_node))
    for nodes in range(least, least + MORE_NODES_TRIED):
        devices = nodes * per_node
        if devices <= MOST_DEVICES and run.with_cluster(world_size=devices).fits():
            lines = (f"--world-size {devices} --devices-per-node {per_node}",)
            return Suggestion(lines, f"more devices: {devices} is the least number that fits")
    return None


def _saved(run: DryRun, edited: DryRun) -> str:
    before, after = (sum(r.feature_bytes().values()) for r in (run, edited))
    return format_bytes(before - after)


def _two_digits(number: float) -> int:
    """Rounded down to two significant digits: 1234567 → 1200000."""
    step = 10 ** max(0, len(str(int(number))) - 2)
    return max(1, int(number) // step * step)


def _flow(value: dict[str, object]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()


def plan_run(config: RunConfig, schema: Schema, cluster: Cluster) -> FoundPlan:
    """The plan of a run; the same on each rank that calls it.

    Raises:
        RecsysError: nothing to shard, a placement that is not available, or tables that do not fit;
            then the message names the largest features and config changes that would help.
    """
    run = DryRun(config, schema, cluster)
    _check_store(run)
    try:
        return find_plan(run.request())
    except DoesNotFitError:
        raise explain(run) from None


def _check_store(run: DryRun) -> None:
    if run.config.embeddings.store == "plain":
        whole = format_bytes(sum(run.feature_bytes().values()))
        raise RecsysError(
            "the plain store is not sharded: every device holds all tables",
            where="embeddings.store",
            got=f"{whole} on each device, with optimizer state",
            fix="set embeddings.store: fused (train.embedding_optimizer: rowwise_adagrad or sgd)",
        )
