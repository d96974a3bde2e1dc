"""`recsys search`: trains the supernet, chooses, writes the allocation file."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from recsys.config.run import RunConfig
from recsys.config.search import DnisSearchConfig, OptEmbedSearchConfig, SearchConfig
from recsys.distributed.context import Ranks
from recsys.embeddings.allocation import Allocation, load_allocation, save_allocation
from recsys.errors import RecsysError
from recsys.io.atomic import write_json
from recsys.io.stop_signals import StopSignals
from recsys.reports.text import percent, size
from recsys.schema import Schema
from recsys.search.dnis import search_dnis
from recsys.search.factor_module import FactorModule
from recsys.search.optembed import search_optembed
from recsys.search.page import write_page
from recsys.search.result import Found, StopIfAsked, full_bytes, searched_tables
from recsys.search.shared_bands import with_band_ends
from recsys.search.threshold_module import ThresholdModule
from recsys.training.lightning.signals import StoppedBySignal
from recsys.training.run_folder.folder import CONFIG_FILE, TRAINING_FILE, check_dataset
from recsys.training.run_folder.lock import run_lock
from recsys.training.run_folder.trained import TrainedRun, load_trained
from recsys.training.train import ModuleBuilder, ranks_of, train

SUPERNET, STATE_FILE = "supernet", "candidates.json"
ALLOCATION_FILE, PAGE_FILE, SEARCH_FILE = "allocation.json", "allocation.html", "search.json"


def search(
    config: RunConfig, out_dir: Path, *, resume: bool = False, ranks: Ranks | None = None
) -> Path:
    """Runs a search in `out_dir`; returns the path of the allocation file.

    `out_dir/supernet` is an ordinary run folder. `resume` continues after the last checkpoint of
    the supernet, or after the last candidates that were scored.
    """
    if resume and (out_dir / SUPERNET / CONFIG_FILE).is_file():
        check_dataset(out_dir / SUPERNET, config.data)
    schema = config.data.load_schema()
    settings = _check(config, schema)
    config = with_band_ends(config, schema)
    join: AbstractContextManager[Ranks] = ranks_of(config) if ranks is None else nullcontext(ranks)
    with join as ranks, run_lock(out_dir, rank=ranks.rank):
        trained = _supernet(config, schema, settings, out_dir, ranks, resume=resume)
        with StopSignals() as signals:
            found = _find(trained, settings, out_dir / STATE_FILE, _stopper(signals, ranks))
        if ranks.is_first:
            _write(found, trained, settings, out_dir)
        ranks.barrier()
    return out_dir / ALLOCATION_FILE


def _check(config: RunConfig, schema: Schema) -> SearchConfig:
    if config.search is None:
        raise RecsysError(
            "there is nothing to search",
            where="search",
            expected="a section `search: {name: optembed}` or `search: {name: dnis}`",
            fix="configs/criteo_kaggle/autoint_optembed.yaml shows one",
        )
    if config.allocation is not None:
        raise RecsysError(
            "the config already has an allocation",
            where="embeddings.allocation",
            fix="leave it out to search, or train with it: `recsys train`",
        )
    _check_roles(config)
    _check_other_kinds(config, schema, config.search.name)
    if not searched_tables(config, schema, config.search.name):
        raise RecsysError(
            f"no feature has the method {config.search.name}",
            where="embeddings",
            expected=f"method: {config.search.name}, for the features whose rows and columns "
            "are searched",
            fix=f"set embeddings.default.method={config.search.name}",
        )
    return config.search


def _check_other_kinds(config: RunConfig, schema: Schema, name: str) -> None:
    """Refuses supernets of another kind of search: nothing would be chosen for them."""
    other = "dnis" if name == "optembed" else "optembed"
    tables = searched_tables(config, schema, other)
    if tables:
        raise RecsysError(
            f"a search of kind {name} does not search features of method {other}",
            where="embeddings",
            expected=f"method {name}, or a method that needs no search, such as full_table",
            got=f"{other} for {', '.join(table.name for table in tables[:5])}"
            + (f" and {len(tables) - 5} more" if len(tables) > 5 else ""),
            fix=f"change their method, or search with search.name={other} in a run of its own",
        )


def _check_roles(config: RunConfig) -> None:
    for name, role in config.embeddings.roles.items():
        for method in (role.default, *role.features.values()):
            if method.method in ("optembed", "dnis"):
                raise RecsysError(
                    f"the embeddings of the role {name!r} are not searched",
                    where=f"embeddings.roles.{name}",
                    expected="a method that needs no search, such as full_table",
                    got=method.method,
                )


def _supernet(
    config: RunConfig,
    schema: Schema,
    settings: SearchConfig,
    out_dir: Path,
    ranks: Ranks,
    *,
    resume: bool,
) -> TrainedRun:
    """Trains the supernet, or loads it if it is trained."""
    run_dir = out_dir / SUPERNET
    has_begun, is_trained = ranks.broadcast(
        ((run_dir / CONFIG_FILE).is_file(), (run_dir / TRAINING_FILE).is_file())
    )
    if has_begun and not resume:
        raise RecsysError(
            f"{out_dir} already contains a search",
            fix=f"choose another --out, or continue it with `recsys search --resume {out_dir}`",
        )
    if not is_trained:
        build = _module_builder(config, schema, settings)
        train(_without_pipeline(config), run_dir, resume=has_begun, ranks=ranks, build_module=build)
    return load_trained(run_dir, ranks)


def _module_builder(config: RunConfig, schema: Schema, settings: SearchConfig) -> ModuleBuilder:
    if isinstance(settings, DnisSearchConfig):
        return partial(FactorModule, run=config, schema=schema, search=settings)
    return partial(ThresholdModule, search=settings)


def _without_pipeline(config: RunConfig) -> RunConfig:
    """Switches the pipeline off: batches of two splits alternate, and it would mix them."""
    return config.model_copy(update={"train": config.train.model_copy(update={"pipeline": "off"})})


def _find(
    trained: TrainedRun, settings: SearchConfig, state: Path, stop_if_asked: StopIfAsked
) -> Found:
    if isinstance(settings, OptEmbedSearchConfig):
        return search_optembed(trained, settings, state, stop_if_asked)
    return search_dnis(trained, settings, state, stop_if_asked)


def _stopper(signals: StopSignals, ranks: Ranks) -> Callable[[int], None]:
    def stop_if_asked(done: int) -> None:
        if ranks.any(bool(signals.received)):
            raise StoppedBySignal(max(ranks.gather(signals.received)), done)

    return stop_if_asked


def _write(found: Found, trained: TrainedRun, settings: SearchConfig, out_dir: Path) -> None:
    config, schema = trained.config, trained.schema
    tables = searched_tables(config, schema, settings.name)
    allocation = Allocation(
        method=settings.name,
        dataset=schema.name,
        fingerprint=schema.fingerprint(),
        model=config.model.model_dump(mode="json"),
        seed=config.train.seed,
        max_bytes=found.max_bytes,
        bytes=found.chosen.bytes,
        full_bytes=full_bytes(tables),
        supernet=found.supernet,
        chosen=found.chosen,
        features=found.features,
    )
    artifacts = {
        f"{feature}/{name}": tensor
        for feature, method in found.methods.items()
        for name, tensor in method.artifacts.items()
    }
    write_json(out_dir / SEARCH_FILE, _record(found, settings))
    write_page(allocation, found.candidates, out_dir / PAGE_FILE)
    save_allocation(allocation, artifacts, out_dir / ALLOCATION_FILE)


def _record(found: Found, settings: SearchConfig) -> dict[str, object]:
    """search.json: the settings, and every candidate with its score."""
    return {
        "format": 1,
        "search": settings.model_dump(mode="json"),
        "supernet": found.supernet.model_dump(mode="json"),
        "chosen": found.chosen.model_dump(mode="json"),
        "candidates": [candidate._asdict() for candidate in found.candidates],
    }


def describe(path: Path) -> str:
    """The result, and the command that trains it."""
    config = path.parent / SUPERNET / CONFIG_FILE
    retrained = path.parent / "retrained"
    allocation, _ = load_allocation(path)
    supernet, chosen = allocation.supernet, allocation.chosen
    return "\n".join(
        [
            f"supernet: AUC {supernet.auc:.5f} on the architecture rows ({supernet.rows}), "
            f"{size(allocation.full_bytes)} of tables",
            f"chosen, without retraining: AUC {chosen.auc:.5f}, {size(chosen.bytes)} "
            f"({percent(chosen.bytes / allocation.full_bytes)})",
            f"allocation: {path}; page: {path.with_name(PAGE_FILE)}",
            "to train it from the supernet's initial weights, run:",
            f"  recsys train {config} embeddings.allocation={path} --out {retrained}",
        ]
    )
