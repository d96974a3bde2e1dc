"""`recsys search` as a user types it, and the command that it says to type next."""

import json
import shlex
import sys

import pytest

from recsys.cli.main import main
from recsys.config.run import dump_config
from tests.search.test_search import SECTIONS, config_of

pytestmark = pytest.mark.slow


@pytest.fixture
def recsys(monkeypatch, capsys):
    """Runs a command line; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["recsys", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def config_file(tiny_dataset, tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(dump_config(config_of(tiny_dataset, "train.epochs=1", *SECTIONS["optembed"])))
    return path


def test_the_command_it_names_trains_what_it_found(recsys, config_file, tmp_path):
    out = tmp_path / "search"
    code, printed, progress = recsys("search", config_file, "search.generations=1", "--out", out)
    assert code == 0
    assert "generation 2 of 2" in progress
    command = shlex.split(printed.splitlines()[-1])
    assert command[:2] == ["recsys", "train"]
    assert recsys(*command[1:])[0] == 0
    report = json.loads((out / "retrained" / "report.json").read_text())
    found = json.loads((out / "allocation.json").read_text())
    assert report["allocation"]["supernet"]["auc"] == found["supernet"]["auc"]
    assert set(report["splits"]) == {"valid", "test"}
    assert {f["method"] for f in report["embeddings"]["features"].values()} == {"pruned"}


def test_a_finished_search_is_resumed_to_the_same_answer(recsys, config_file, tmp_path):
    out = tmp_path / "search"
    recsys("search", config_file, "--out", out)
    before = (out / "allocation.json").read_bytes()
    code, *_ = recsys("search", "--resume", out)
    assert code == 0
    assert (out / "allocation.json").read_bytes() == before


def test_a_finished_search_chooses_anew_for_another_budget(recsys, config_file, tmp_path):
    out = tmp_path / "search"
    recsys("search", config_file, "--out", out)
    allocations = []
    for _ in range(2):
        assert recsys("search", "--resume", out, "search.budget_share=0.3")[0] == 0
        allocations.append((out / "allocation.json").read_bytes())
        (out / "candidates.json").unlink()  # the second time from nothing
    assert allocations[0] == allocations[1]
    found = json.loads(allocations[0])
    assert found["bytes"] <= 0.3 * found["full_bytes"]


def test_dnis_prunes_to_the_budget_itself_if_asked(recsys, tiny_dataset, tmp_path):
    file, out = tmp_path / "dnis.yaml", tmp_path / "search"
    file.write_text(dump_config(config_of(tiny_dataset, "train.epochs=1", *SECTIONS["dnis"])))
    assert recsys("search", file, "search.prune_to=budget", "--out", out)[0] == 0
    record = json.loads((out / "search.json").read_text())
    within = [c for c in record["candidates"] if c["bytes"] <= 0.5 * (5 + 20 + 80 + 80) * 8 * 4]
    assert record["chosen"]["auc"] == max(within, key=lambda c: c["bytes"])["auc"]


MISTAKES = {
    "no folder": ((), "search needs a config and --out, or --resume"),
    "a word that is no method": (
        ("search.name=evolution", "--out", "x"),
        "unknown name 'evolution'",
    ),
    "a budget of nothing": (
        ("search.budget_share=0", "--out", "x"),
        "search.budget_share",
    ),
    "two budgets": (("search.budget_bytes=10", "--out", "x"), "either search.budget_share"),
    "a budget below one column": (
        ("search={name: optembed, budget_bytes: 10, generations: 0}", "--out", "x"),
        "no candidate fits into the budget",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_message(recsys, config_file, tmp_path, arguments, message):
    arguments = [tmp_path / "out" if a == "x" else a for a in arguments]
    code, _, err = recsys("search", config_file, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
