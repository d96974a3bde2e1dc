"""Does DIN with the shipped configs lose to mean pooling, and which of its choices decide it?

    python -m benchmarks.histories.din_defaults grid  --work DIR [--only movielens] [--jobs 2]
    python -m benchmarks.histories.din_defaults more_seeds --work DIR [--only movielens]
    python -m benchmarks.histories.din_defaults final --work DIR --configs taobao amazon
    python -m benchmarks.histories.din_defaults record --work DIR

Samples: Amazon Grocery, Beauty and Sports, MovieLens-1M with histories. `grid` changes choices of
configs/taobao/din.yaml, one seed, `more_seeds` fewer of them with five seeds; both read valid GAUC
alone. `final` trains the configs as they are shipped; mean pooling has the same file but for what
DIN alone has. Differences are paired: the same rows, users resampled. Runs are kept in
DIR/runs.jsonl and not repeated; `record` writes what is there.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from benchmarks import harness
from benchmarks.runs import RunLog, train_in_process
from benchmarks.samples import SAMPLES, describe, prepared
from benchmarks.tables import by_seed, mean_std, table
from recsys.config.yaml_files import apply_overrides
from recsys.metrics import compare_grouped_aucs

NAMES = ("grocery", "beauty", "sports", "movielens")
CONFIGS = {"taobao": "configs/taobao/din.yaml", "amazon": "configs/amazon/din.yaml"}
DIN, POOLING = "din", "mean_pooling"
OF_DIN = ("attention_hidden_dims", "attention_activation", "attention_dropout", "softmax")
OF_DIN += ("scale_scores", "top_k", "dice_statistics")
GRID_CONFIG, GRID_SEED = "taobao", 0

# the changes of the grid, as overrides; the first two are always given
RATE, STD = "train.embedding_optimizer.learning_rate=0.03", "embeddings.default.init.std=0.0001"
POOLING_GRID = tuple(
    f"model.target_aware={has_product} {change}".strip()
    for has_product, change in product(("false", "true"), ("", RATE, STD))
)
DIN_GRID = tuple(
    f"model.softmax={softmax} model.target_aware={has_product} {change}".strip()
    for softmax, has_product, change in product(
        ("true", "false"),
        ("false", "true"),
        ("", RATE, STD, "model.attention_activation=relu", "model.scale_scores=true"),
    )
)
MORE_SEEDS = (10, 11, 12, 13, 14)
SHIPPED = "model.softmax=true model.target_aware=true"
CLOSE = (
    (POOLING, "model.target_aware=true"),
    (POOLING, "model.target_aware=false"),
    (DIN, SHIPPED),
    (DIN, f"{SHIPPED} model.scale_scores=true"),
    (DIN, f"{SHIPPED} model.attention_activation=relu"),
    (DIN, f"{SHIPPED} model.attention_activation=prelu"),
    (DIN, f"{SHIPPED} embeddings.default.init.std=0.1"),
)


def run_config(sample: str, config: str, model: str, change: str, seed: int, work: Path) -> dict:
    """The shipped config for a sample, judged by GAUC; of the model alone the name may differ."""
    content = yaml.safe_load(Path(CONFIGS[config]).read_text())
    dataset = SAMPLES[sample]
    content["data"]["path"] = str(prepared(sample, work))
    content["embeddings"]["features"] = dataset.features
    content["model"] |= {"name": model, "pairs": [dataset.pair]}
    if model != DIN:
        for name in OF_DIN:
            content["model"].pop(name, None)
    content["train"] |= {"seed": seed, "monitor": "gauc", "device": "cpu"}
    return apply_overrides(content, change.split())


class Benchmark:
    """All runs, found again in DIR/runs.jsonl; their predictions stay in the run folders."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.log = RunLog(work / "runs.jsonl", ("sample", "config", "model", "change", "seed"))

    def run(self, *names: object) -> dict:
        done = self.log.find(*names)
        if done is not None:
            return done
        facts = train_in_process(run_config(*names, self.work), self.folder(*names))
        facts.pop("attention")
        if names[3]:
            facts.pop("test")  # choices are made by valid alone
        return self.log.add(names, facts)

    def folder(self, *names: object) -> Path:
        name = "-".join(map(str, names))
        return self.work / "runs" / "".join(c if c.isalnum() else "_" for c in name)

    def difference(self, split: str, run: tuple, other: tuple) -> dict:
        """GAUC of `run` less that of `other`, users resampled."""
        scores, rows = [], None
        for names in (other, run):
            path = self.folder(*names) / "predictions" / f"{split}.parquet"
            rows = pq.read_table(path, columns=["logit", "label", "group_id"])
            scores.append(rows["logit"].to_numpy())
        paired = compare_grouped_aucs(
            *scores, rows["label"].to_numpy(), rows["group_id"].to_numpy()
        )
        return {"difference": paired.difference, "ci95": paired.ci95}


def grid(samples: list[str]) -> Iterator[tuple]:
    for sample in samples:
        for change in POOLING_GRID:
            yield (sample, GRID_CONFIG, POOLING, change, GRID_SEED)
        for change in DIN_GRID:
            yield (sample, GRID_CONFIG, DIN, change, GRID_SEED)


def more_seeds(samples: list[str]) -> Iterator[tuple]:
    for sample, seed, (model, change) in product(samples, MORE_SEEDS, CLOSE):
        yield (sample, GRID_CONFIG, model, change, seed)


def final(samples: list[str], configs: list[str], seeds: list[int]) -> Iterator[tuple]:
    for seed, config, sample, model in product(seeds, configs, samples, (POOLING, DIN)):
        yield (sample, config, model, "", seed)


def differences(benchmark: Benchmark) -> list[dict]:
    """DIN less mean pooling, for every sample, config and seed for which both were run."""
    found = []
    for run in benchmark.log.runs:
        if run["model"] != DIN or run["change"]:
            continue
        names = tuple(run[key] for key in benchmark.log.keys)
        other = (*names[:2], POOLING, *names[3:])
        if benchmark.log.find(*other) is not None:
            splits = {s: benchmark.difference(s, names, other) for s in ("valid", "test")}
            found.append({"sample": names[0], "config": names[1], "seed": names[4], **splits})
    return found


def grid_table(runs: list[dict], samples: list[str]) -> str:
    found = {(r["sample"], r["model"], r["change"]): r for r in runs if r["seed"] == GRID_SEED
             and r["config"] == GRID_CONFIG}  # fmt: skip
    rows = []
    for model, change in dict.fromkeys((model, change) for _, model, change in found):
        cells = [found.get((sample, model, change)) for sample in samples]
        values = [f"{run['valid']['gauc']:.4f}" if run else "–" for run in cells]
        rows.append([model, change or "none", *values])
    head = f"**{CONFIGS[GRID_CONFIG]} with changes**, valid GAUC, seed {GRID_SEED}; –: not run."
    return f"{head}\n\n{table(['model', 'change', *samples], rows)}"


def more_seeds_table(runs: list[dict], samples: list[str]) -> str:
    rows = []
    for sample, (model, change) in product(samples, CLOSE):
        names = (sample, GRID_CONFIG, model, change)
        found = {
            run["seed"]: run["valid"]["gauc"]
            for run in runs
            if tuple(run[key] for key in ("sample", "config", "model", "change")) == names
            and run["seed"] in MORE_SEEDS
        }
        if found:
            seeds = ", ".join(map(str, sorted(found)))
            rows.append([sample, model, change, seeds, mean_std(list(found.values()))])
    return (
        f"**{CONFIGS[GRID_CONFIG]} with changes and more seeds**, valid GAUC, mean ± standard "
        f"deviation.\n\n{table(['sample', 'model', 'change', 'seeds', 'valid GAUC'], rows)}"
    )


def final_table(runs: list[dict], apart: list[dict], config: str, samples: list[str]) -> str:
    rows = []
    for sample in samples:
        own = [d for d in apart if (d["sample"], d["config"]) == (sample, config)]
        seeds = [d["seed"] for d in own]
        for split in ("valid", "test") if own else ():
            gaucs = {
                model: [r[split]["gauc"] for r in runs if r["seed"] in seeds
                        and (r["sample"], r["config"], r["model"]) == (sample, config, model)]
                for model in (DIN, POOLING)
            }  # fmt: skip
            each = ", ".join(
                "{:+.4f} ({:+.4f} to {:+.4f})".format(d[split]["difference"], *d[split]["ci95"])
                for d in own
            )
            means = [mean_std(gaucs[model]) for model in (DIN, POOLING)]
            rows.append([sample, ", ".join(map(str, seeds)), split, *means, each])
    return (
        f"**{CONFIGS[config]} as shipped**, and mean pooling with the same file; GAUC, mean ± "
        "standard deviation over seeds. Differences: DIN less mean pooling, by seed, with the 95 % "
        "interval of users resampled.\n\n"
        + table(["sample", "seeds", "split", "DIN", "mean pooling", "differences"], rows)
    )


def figures(runs: list[dict]) -> dict[str, dict[str, list]]:
    flat = [
        {**run, **{f"{split}_gauc": run[split]["gauc"] for split in ("valid", "test")
                   if split in run}}
        for run in runs
    ]  # fmt: skip
    return by_seed(flat, ("sample", "config", "model", "change"), ("valid_gauc", "test_gauc"))


def main() -> None:
    parser = harness.parser(__doc__, seeds=(1, 2, 3), work="required")
    parser.add_argument("what", choices=("grid", "more_seeds", "final", "record"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--notes", type=Path, help="a text file for the beginning of the record")
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.work)
    if arguments.what != "record":
        for sample in arguments.only:
            prepared(sample, arguments.work)
        names = {
            "grid": grid(arguments.only),
            "more_seeds": more_seeds(arguments.only),
            "final": final(arguments.only, arguments.configs, arguments.seeds),
        }[arguments.what]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda run: benchmark.run(*run), names))
        return
    runs, apart = benchmark.log.runs, differences(benchmark)
    finals = [run for run in runs if not run["change"]]
    parts = [arguments.notes.read_text()] if arguments.notes else []
    parts.append("\n".join(f"- {s}: {describe(arguments.work / s)}" for s in arguments.only))
    parts += [final_table(finals, apart, config, arguments.only) for config in arguments.configs]
    parts += [grid_table(runs, arguments.only), more_seeds_table(runs, arguments.only)]
    facts = {"runs": figures(runs), "din_less_mean_pooling": apart}
    harness.report(arguments, facts, "\n\n".join(parts))


if __name__ == "__main__":
    main()
