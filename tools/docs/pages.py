"""The text of the generated pages, and which page shows which file of the repository."""

import re
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from tools.docs.config_reference import config_reference
from tools.docs.python_reference import python_reference

RESULTS = "benchmarks/results"
SHOWN_FILES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
    "benchmarks/README.md": "reference/benchmarks.md",
}
# Run folders have this key; files written by hand use `embeddings.allocation` instead.
HIDDEN_KEYS = frozenset({"allocation"})

CONFIG_PAGE = """# Config keys

Every key of a run's YAML file, with its type, limits and default, generated from the classes that
read the file. [The YAML of a run](../run_yaml.md) explains the sections with examples. A key in the
file or on the command line (`recsys train FILE section.key=value`) that is not listed here is an
error.

"""
RECIPE_PAGE = """# Recipe keys

Every key of a recipe for `recsys prepare`, generated from the classes that read it.
[Bring your own table](../own_table.md) explains them with examples.

"""
COMMANDS_PAGE = """# Commands

Generated from the command line itself; `recsys COMMAND --help` prints the same.

Exit codes: 0 done; 2 invalid command, config or input, with one message that says what is wrong and
how to correct it; 130 or 143 stopped by Ctrl-C or SIGTERM. `train` and `search` that are stopped
after they have written a checkpoint exit with 0.

"""
METRICS_PAGE = """# Metrics

The metrics of `report.json`, `report.html` and `train.monitor`, generated from the list in
`recsys/metrics/__init__.py`.

| name | definition | better | defined for |
|---|---|---|---|
"""
PYTHON_PAGE = """# Python functions

The commands as functions, preparation of data, and metrics, generated from their docstrings.
`recsys` imports each when it is first used; `recsys.verify`, `recsys.ExportReader` and
`data_pipelines` need no torch.

"""
SHIPPED_PAGE = """# Shipped configs

The files in `configs/`: one complete run each, and recipes in `configs/recipes/`.

"""
RECORDS_PAGE = """# Records

One record per benchmark, as its script wrote it: figures, commit, machine and versions.
[Results](../results.md) summarizes them; [Benchmarks](benchmarks.md) lists the scripts.

| record | date | commit | machine |
|---|---|---|---|
"""


def generated_pages(root: Path) -> dict[str, str]:
    """The text of each generated page, by its path on the site."""
    pages = {
        "reference/config.md": _config_keys(),
        "reference/recipe.md": _recipe_keys(),
        "reference/commands.md": _commands(),
        "reference/metrics.md": _metrics(),
        "reference/python.md": _python(),
        "reference/shipped.md": _shipped(root),
        "reference/records.md": _records(root),
    }
    pages |= {uri: (root / file).read_text() for file, uri in SHOWN_FILES.items() if "/" in uri}
    for record in sorted((root / RESULTS).glob("*.md")):
        pages[f"reference/records/{record.name}"] = record.read_text()
    return pages


def source_of(uri: str) -> str:
    """The file of the repository whose text a page shows."""
    files = {page: file for file, page in SHOWN_FILES.items() if "/" in page}
    if uri in files:
        return files[uri]
    if uri.startswith("reference/records/"):
        return f"{RESULTS}/{uri.removeprefix('reference/records/')}"
    return f"docs/{uri}"


def page_of(path: str) -> str | None:
    """The page, with its anchor if needed, that shows a file of the repository."""
    if path in SHOWN_FILES:
        return SHOWN_FILES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith(f"{RESULTS}/") and path.endswith((".md", ".svg")):
        return f"reference/records/{path.removeprefix(f'{RESULTS}/')}"
    if path == RESULTS:
        return "reference/records.md"
    if path.startswith("configs/"):
        anchor = f"#{anchor_of(path)}" if path.endswith(".yaml") else ""
        return f"reference/shipped.md{anchor}"
    return None


def anchor_of(path: str) -> str:
    """The anchor of a config on the page of shipped configs."""
    return re.sub(r"[^a-z0-9]+", "-", path.removesuffix(".yaml").lower())


def _config_keys() -> str:
    from recsys.config.run import RunConfig  # imports torch

    return CONFIG_PAGE + config_reference(RunConfig, HIDDEN_KEYS)


def _recipe_keys() -> str:
    from data_pipelines.recipe import Recipe

    return RECIPE_PAGE + config_reference(Recipe)


def _commands() -> str:
    from recsys.cli.main import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="recsys")
    _, first, commands = text.partition("## `recsys ")
    commands = re.sub(r"\* `--help`: .*\n", "", first + commands)
    commands = re.sub(r"\*\*Options\*\*:\n\s+(?!\* )", "", commands)  # none but --help
    return COMMANDS_PAGE + re.sub(r"\*\*Usage\*\*:\n\n", "", commands)


def _metrics() -> str:
    from recsys.metrics import METRICS

    rows = [
        f"| `{name}` | {metric.definition} | {metric.better} | {metric.requires} |"
        for name, metric in METRICS.items()
    ]
    return METRICS_PAGE + "\n".join(rows) + "\n"


def _python() -> str:
    import data_pipelines
    import recsys
    from recsys import metrics

    functions = [name for name in metrics.__all__ if name.startswith("com")]  # compute_, compare_
    modules = (
        (recsys, recsys.__all__),
        (data_pipelines, data_pipelines.__all__),
        (metrics, functions),
    )
    return PYTHON_PAGE + python_reference(
        (module.__name__, [(name, getattr(module, name)) for name in names])
        for module, names in modules
    )


def _shipped(root: Path) -> str:
    parts = []
    for file in sorted((root / "configs").rglob("*.yaml")):
        path = file.relative_to(root).as_posix()
        parts.append(f"## `{path}` {{: #{anchor_of(path)} }}\n\n```yaml\n{file.read_text()}```\n")
    return SHIPPED_PAGE + "\n".join(parts)


def _records(root: Path) -> str:
    rows = []
    for file in sorted((root / RESULTS).glob("*.md")):
        text = file.read_text()
        date, commit, machine = (
            _fact(r"date: ([\d-]+)", text),
            _fact(r"commit: ([^\s,]+)", text),
            _fact(r"machine: (.*?), Linux", text) or _fact(r"machine: ([^;]*)", text),
        )
        name, day = _fact(r"# (.*)", text), date.replace("-", "\u2011")  # does not break
        rows.append(f"| [{name}](records/{file.name}) | {day} | {commit} | {machine} |")
    return RECORDS_PAGE + "\n".join(rows) + "\n"


def _fact(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""
