"""`recsys plan` as a user types it."""

import json
import sys

import pytest

from recsys.cli.main import main


@pytest.fixture
def plan(monkeypatch, capsys, config_file):
    """Runs `recsys plan` on the config; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["recsys", "plan", str(config_file), *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


def test_a_plan_needs_the_schema_and_nothing_else(plan, tmp_path):
    out = tmp_path / "plans" / "plan.json"
    code, printed, errors = plan("--world-size", "4", "--hbm", "1GB", "--out", str(out))
    assert (code, errors) == (0, "")
    assert "1,000,000 × 16" in printed
    assert "68 MB" in printed  # C1 in training
    assert "64 MB" in printed  # C1 as exported
    assert "ms per step for the tables on 4 × cuda" in printed
    assert "estimates" in printed
    content = json.loads(out.read_text())
    assert content["cluster"]["world_size"] == len(content["ranks"]) == 4
    assert content["features"]["C1"]["serve_bytes"] == 64_000_000
    assert content["full_table_bytes"] == content["serve_bytes"] == 1_200_010 * 16 * 4
    assert "to serve: 100.0% of full tables of the default width" in printed


def test_the_same_command_writes_the_same_bytes(plan, tmp_path):
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    plan("--world-size", "2", "--out", str(first))
    plan("--world-size", "2", "--out", str(second))
    assert first.read_bytes() == second.read_bytes()


def test_overrides_reach_the_plan(plan):
    code, printed, _ = plan(
        "embeddings.features.C1.placement={sharding: row_wise}", "--world-size", "4"
    )
    assert (code, "row_wise" in printed) == (0, True)


def test_a_plan_for_cpus(plan):
    code, printed, _ = plan("--device", "cpu", "--world-size", "2", "--host-memory", "8GB")
    assert (code, "2 × cpu" in printed) == (0, True)


def test_a_plan_says_how_small_the_tables_are_and_who_shares_them(plan):
    hashed = "{method: hashed, embedding_dim: 16, num_buckets: 100000}"
    code, printed, _ = plan(f"embeddings.features.C1={hashed}", "--world-size", "2")
    assert (code, "to serve: 25.0% of full tables" in printed) == (0, True)


def test_a_config_beyond_its_budget_has_no_plan(plan):
    code, printed, errors = plan("embeddings.budget=64MB")
    assert (code, printed) == (2, "")
    assert errors.startswith("error: the embeddings take 12.8 MB more than their budget")
    assert "full_table, 1,000,000 ids, dim 16" in errors


def test_tables_that_do_not_fit_are_one_message_and_no_file(plan, tmp_path):
    out = tmp_path / "plan.json"
    code, printed, errors = plan("--hbm", "8MB", "--world-size", "2", "--out", str(out))
    assert (code, printed, out.exists()) == (2, "", False)
    assert errors.startswith("error: the tables do not fit on 2 × cuda: ")
    assert "embeddings.features.C1: {method: hashed" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hbm", "80"], "'80' is not a valid size"),
        (["--host-memory", "lots"], "--host-memory"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--world-size", "12", "--devices-per-node", "8"], "do not fill a whole number of nodes"),
        (["embeddings.features.D1.placement={kernel: uvm}"], "no such feature in the dataset"),
        (["data.path=nowhere"], "nowhere is not a dataset"),
    ],
)
def test_wrong_usage_is_one_message(plan, arguments, message):
    code, printed, errors = plan(*arguments)
    assert (code, printed) == (2, "")
    assert message in errors
