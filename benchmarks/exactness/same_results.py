"""Do two checkouts train the same weights and predictions, bit for bit, on this machine?

    python -m benchmarks.exactness.same_results --before CHECKOUT

Three short runs on real rows, with one thread: DCN-V2 with fused tables, AutoInt+ with plain tables
and dense Adam, DARE. Each checkout prepares, trains and exports with its own code and configs;
compared are sha256 of the prepared Parquet files, of every tensor of every checkpoint and export
(as a sorted list, names may differ), and of labels and logits of the predictions.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import polars as pl
from safetensors.numpy import load_file

from benchmarks import harness
from benchmarks.samples import REAL_DATA
from benchmarks.tables import table

HERE = harness.ROOT


class Run(NamedTuple):
    """A recipe, its raw rows below the real data, a config below configs/, and overrides."""

    recipe: str
    raw: str
    config: str
    overrides: tuple[str, ...]


RUNS = {
    "DCN-V2, fused": Run(
        "criteo_kaggle",
        "criteo_kaggle/dac_sample_137k.tsv.gz",
        "criteo_kaggle/dcn_v2.yaml",
        ("train.epochs=1", "data.global_batch_size=2048"),
    ),
    "AutoInt+, plain": Run(
        "movielens_1m",
        "movielens_1m",
        "movielens_1m/autoint_plus.yaml",
        (
            "train.epochs=2",
            "embeddings.store=plain",
            "train.embedding_optimizer={name: adam, learning_rate: 1.0e-3, l2: 1.0e-6}",
        ),
    ),
    "DARE, fused": Run(
        "taobao",
        "taobao/UserBehavior_10k_114users_full_history.csv.gz",
        "taobao/dare.yaml",
        ("train.epochs=2", "data.global_batch_size=256", "train.validate_every_steps=30"),
    ),
}


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    arguments = parser.parse_args()
    figures = {}
    for name, run in RUNS.items():
        before, after = (digests(checkout, run) for checkout in (arguments.before, HERE))
        figures[name] = {"before": before, "after": after}
        print(name, "equal" if before == after else "differs", flush=True)
    commit = harness.run(["git", "-C", arguments.before, "rev-parse", "--short=12", "HEAD"]).strip()
    harness.report(arguments, {"before": commit, "runs": figures}, to_markdown(commit, figures))
    if any(figure["before"] != figure["after"] for figure in figures.values()):
        sys.exit(1)


def digests(checkout: Path, run: Run) -> dict[str, str]:
    """sha256 by kind of content, of a run with the checkout's code."""
    with tempfile.TemporaryDirectory() as work:
        dataset, trained, exported = (Path(work, name) for name in ("data", "run", "export"))
        raw, config = (REAL_DATA / run.raw).resolve(), checkout.resolve() / "configs" / run.config
        recsys(checkout, "prepare", run.recipe, "--raw", raw, "--out", dataset)
        recsys(checkout, "train", config, f"data.path={dataset}", *run.overrides, "--out", trained)
        recsys(checkout, "export", trained, "--out", exported)
        return {
            "dataset": sha256(path.read_bytes() for path in sorted(dataset.rglob("*.parquet"))),
            "checkpoints": tensors(trained),
            "predictions": sha256(
                pl.read_parquet(path)[column].to_numpy().tobytes()
                for path in sorted(trained.glob("predictions/*.parquet"))
                for column in ("label", "logit", "probability")
            ),
            "exported tables": tensors(exported),
        }


def recsys(checkout: Path, *words: object) -> None:
    paths = {"PYTHONPATH": str(checkout.resolve())}
    harness.run([sys.executable, "-m", "recsys", *words], threads=1, environment=paths)


def tensors(folder: Path) -> str:
    """The sha256 of the sorted sha256 of all tensors below the folder, shapes included."""
    loaded = (load_file(path) for path in folder.rglob("*.safetensors"))
    each = sorted(
        sha256([str(tensor.shape).encode(), tensor.tobytes()])
        for file in loaded
        for tensor in file.values()
    )
    return sha256(digest.encode() for digest in each)


def sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def to_markdown(commit: str, figures: dict) -> str:
    rows = [
        (name, kind, value[:16], "equal" if value == figure["before"][kind] else "**differs**")
        for name, figure in figures.items()
        for kind, value in figure["after"].items()
    ]
    header = ("run", "content", "sha256 (first 16 digits)", f"beside commit {commit}")
    return table(header, rows)


if __name__ == "__main__":
    main()
