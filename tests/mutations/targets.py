"""What is mutated: everything a user writes or a stranger may hand over, and who reads it."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from hypothesis import strategies as st

from recsys.io.checksums import CHECKSUM_FILE
from recsys.io.paths import sha256_of
from tests.faults.commands import run
from tests.faults.conftest import write_config
from tests.mutations.mutation import (
    HOSTILE_VALUES,
    Mutation,
    mutations_of_bytes,
    mutations_of_file,
    mutations_of_tree,
)
from tests.tiny_dataset import write_tiny_dataset

LARGEST_BYTES = 2**30  # no file of a target has as many; a larger one is padded

RECIPE = """
label: {column: clicked}
numerical: {columns: [price, age], transform: log}
categorical: {columns: [color, shop]}
sequence: {columns: [tags], separator: "|", max_length: 3}
group: user
min_count: 1
per_feature:
  shop: {encoding: {kind: hash, cardinality: 40}}
  price: {transform: {kind: quantile_buckets, num_buckets: 4}}
split: {method: random, seed: 1, fractions: [0.6, 0.2, 0.2]}
"""


@dataclass(frozen=True)
class Target:
    """A pristine folder, the mutations of it, and the command that must survive them.

    `folders`: those whose SHA256SUMS an attacker would write again after the change.
    """

    pristine: Path
    mutations: st.SearchStrategy[Mutation]
    arguments: Callable[[Path], Sequence[object]]
    folders: tuple[str, ...] = ()


def build_targets(root: Path, work: Path) -> dict[str, Target]:
    """Writes each pristine folder below `root`; each will be copied to `work` to be damaged."""
    raw, run_folder = _write_raw(root / "raw"), _write_run(root / "run", work)
    data = _write_dataset(root / "data", work)
    export = _write_export(root / "export", run_folder)
    _move(run_folder, work)
    return {
        "recipe": Target(raw, _of_trees(raw, "recipe.yaml"), _prepare),
        "raw text": Target(raw, _of_files(raw, "rows.csv"), _prepare),
        "config": Target(data, _of_trees(data, "config.yaml"), _train),
        "override": Target(data, _overrides(data), _train),
        "schema": Target(data, _of_trees(data, "dataset/schema.json"), _train),
        "data files": Target(data, _of_files(data, "dataset/**/*.parquet"), _train),
        "run, trees": Target(
            run_folder,
            _of_trees(run_folder, "run/**/*.json", "run/config.yaml"),
            _evaluate,
            ("run/checkpoints/*",),
        ),
        "run, files": Target(
            run_folder, _of_files(run_folder, "run/**/*"), _evaluate, ("run/checkpoints/*",)
        ),
        "run, resumed": Target(
            run_folder,
            st.one_of(
                _of_trees(run_folder, "run/checkpoints/**/*.json"),
                _of_files(run_folder, "run/checkpoints/**/*"),
            ),
            _resume,
            ("run/checkpoints/*",),
        ),
        "export, manifest": Target(
            export, _of_trees(export, "export/manifest.json"), _verify, ("export",)
        ),
        "export, files": Target(export, _of_files(export, "export/**/*"), _verify, ("export",)),
    }


def remake_checksums(folder: Path, patterns: Sequence[str]) -> None:
    """Writes SHA256SUMS again, as whoever changed the files on purpose would."""
    for pattern in patterns:
        for place in folder.glob(pattern):
            if (place / CHECKSUM_FILE).is_file():
                _write_checksums(place)


def _write_checksums(folder: Path) -> None:
    """Of links to files too, which the product's own function refuses."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    (folder / CHECKSUM_FILE).write_text(
        "".join(
            f"{sha256_of(folder / name)}  {name}\n"
            for name in names
            if name != CHECKSUM_FILE
            and (folder / name).is_file()
            and (folder / name).stat().st_size < LARGEST_BYTES
        )
    )


def _of_trees(folder: Path, *patterns: str) -> st.SearchStrategy[Mutation]:
    strategies = []
    for path in _files(folder, patterns):
        text = path.read_text()
        tree = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
        if tree:
            strategies.append(mutations_of_tree(path.relative_to(folder).as_posix(), tree))
    return st.one_of(*strategies)


def _of_files(folder: Path, *patterns: str) -> st.SearchStrategy[Mutation]:
    names = [path.relative_to(folder).as_posix() for path in _files(folder, patterns)]
    return st.one_of(
        st.sampled_from(names).flatmap(mutations_of_bytes),
        st.sampled_from(names).flatmap(mutations_of_bytes),
        st.sampled_from(names).flatmap(mutations_of_file),
    )


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if path.name != ".lock")


def _overrides(folder: Path) -> st.SearchStrategy[Mutation]:
    """`key=value` behind a valid command: keys of the config with hostile values, and any text."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    keys = [".".join((section, key)) for section, keys in config.items() for key in keys]
    keys += [
        "data.num_shards",
        "data.shuffle_rows",
        "data.num_workers",
        "train.seed",
        "train.steps",
    ]
    keys += [
        "embeddings.default.init.std",
        "embeddings.features.history.pooling",
        "report.slices",
        "search",
    ]
    values = [yaml.safe_dump(value, default_flow_style=True) for value in HOSTILE_VALUES]
    text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
    known = st.builds("{}={}".format, st.sampled_from(keys), st.sampled_from(values))
    return st.builds(
        Mutation, st.just(""), st.just("override"), st.just(()), st.one_of(known, text)
    )


def _write_raw(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    rng = np.random.default_rng(0)
    lines = ["clicked,price,age,color,shop,tags,user"]
    for _ in range(200):
        price, user = rng.normal(), rng.integers(9)
        clicked = int(price + rng.normal() > 0)
        tags = "|".join(f"t{t}" for t in rng.integers(5, size=rng.integers(0, 4)))
        color, shop, age = rng.integers(4), rng.integers(30), rng.integers(80)
        lines.append(f"{clicked},{price:.3f},{age},c{color},s{shop},{tags},u{user}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder


def _write_dataset(folder: Path, work: Path) -> Path:
    write_tiny_dataset(folder / "dataset", {"train": 120, "valid": 60, "test": 60})
    config = write_config(folder / "config.yaml", work / "dataset")
    content = yaml.safe_load(config.read_text())
    content["train"]["epochs"] = 1
    config.write_text(yaml.safe_dump(content))
    return folder


def _write_run(folder: Path, work: Path) -> Path:
    """A finished run; its dataset lies beside it."""
    _write_dataset(folder, work)
    outcome = run(
        "train",
        folder / "config.yaml",
        f"data.path={folder / 'dataset'}",
        "train.checkpoint_every_steps=1",
        *("--out", folder / "run"),
    )
    assert outcome.code == 0, outcome.err
    return folder


def _move(run_folder: Path, work: Path) -> None:
    """Names the copies in `work` where the run's files name the originals."""
    for path in (run_folder / "run").glob("*.*"):
        if path.suffix in (".yaml", ".json"):
            path.write_text(path.read_text().replace(str(run_folder), str(work)))


def _write_export(folder: Path, run_folder: Path) -> Path:
    shutil.copytree(run_folder / "dataset", folder / "dataset")
    outcome = run("export", run_folder / "run", "--out", folder / "export")
    assert outcome.code == 0, outcome.err
    return folder


def _prepare(work: Path) -> Sequence[object]:
    return "prepare", work / "recipe.yaml", "--raw", work / "rows.csv", "--out", work / "out"


def _train(work: Path) -> Sequence[object]:
    return "train", work / "config.yaml", "--out", work / "out"


def _evaluate(work: Path) -> Sequence[object]:
    return "evaluate", work / "run"


def _resume(work: Path) -> Sequence[object]:
    return "train", "train.epochs=2", "--resume", work / "run"


def _verify(work: Path) -> Sequence[object]:
    return "verify", work / "export", "--data", work / "dataset" / "test"
