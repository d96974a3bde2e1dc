"""`recsys demo`: the whole path on generated rows whose best possible AUC is known."""

import shutil
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

import data_pipelines
from data_pipelines.synthetic import PlantedTruth, generate_criteo
from recsys.cli.progress import progress_report
from recsys.cli.verification import describe_parity, verify
from recsys.config.run import load_config
from recsys.errors import RecsysError
from recsys.evaluation.score import evaluate_split
from recsys.export.write import export_run
from recsys.reports.report import write_report
from recsys.schema import Schema
from recsys.training.run_folder.trained import load_trained
from recsys.training.train import train

CONFIG = Path(__file__).with_name("demo.yaml")
VERIFIED_RAW_ROWS = 20_000
OWN_NAMES = {"raw.tsv", "raw.tsv.truth.parquet", "head.tsv", "dataset", "run", "export"}


def run_demo(out: Path, rows: int) -> None:
    """Generate, prepare, train, evaluate, report, export, verify; say where to look."""
    _clear(out)
    raw, dataset, run, export = (out / n for n in ("raw.tsv", "dataset", "run", "export"))
    typer.echo(f"1/6 generating {rows:,} rows in Criteo's format with a planted model")
    truth = generate_criteo(raw, rows, seed=1)
    typer.echo("2/6 preparing: vocabularies, splits, Parquet")
    with progress_report() as report:
        overrides = ["split.method=random", "split.seed=1", "split.fractions=[0.8,0.1,0.1]"]
        schema = data_pipelines.prepare("criteo_kaggle", [raw], dataset, overrides, report)
    store = "fused" if find_spec("torchrec") and find_spec("fbgemm_gpu") else "plain"
    typer.echo(f"3/6 training AutoInt+ (embeddings.store={store})")
    train(load_config(CONFIG, [f"data.path={dataset}", f"embeddings.store={store}"]), run)
    typer.echo("4/6 evaluating and drawing the report")
    trained = load_trained(run)
    for split in ("valid", "test"):
        evaluate_split(trained, split)
    test = write_report(run, dataset)["splits"]["test"]
    typer.echo("5/6 exporting tables, vocabularies and graphs")
    export_run(trained, export)
    typer.echo("6/6 verifying with an independent reader, from encoded and from raw rows")
    head = _head(raw, out / "head.tsv")
    for data in (dataset / "test", head):
        typer.echo(textwrap.indent(describe_parity(verify(export, data)), "    "))
    _summarize(out, test, truth, schema)


def _summarize(out: Path, test: dict[str, Any], truth: PlantedTruth, schema: Schema) -> None:
    low, high = test["auc_ci95"]
    best = truth.split_auc(schema, "test")
    typer.echo(
        f"\ntest AUC {test['auc']:.4f} (95 % interval {low:.4f} – {high:.4f}); "
        f"the best that the planted model allows is {best:.4f}\n\n"
        f"  report       {out / 'run' / 'report.html'}\n"
        f"  run folder   {out / 'run'}\n"
        f"  export       {out / 'export' / 'manifest.json'}\n"
        f"  its config   {CONFIG}"
    )


def _head(raw: Path, head: Path) -> Path:
    """The first rows of the raw file."""
    with raw.open("rb") as source, head.open("wb") as target:
        target.writelines(line for line, _ in zip(source, range(VERIFIED_RAW_ROWS), strict=False))
    return head


def _clear(out: Path) -> None:
    """Removes an earlier demo; a folder with anything else in it is refused."""
    if out.exists():
        strange = {path.name for path in out.iterdir()} - OWN_NAMES
        if strange:
            raise RecsysError(
                f"{out} has files that are not from an earlier demo",
                got=", ".join(sorted(strange)),
                fix="choose another --out",
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
