"""What benchmarks share: options, processes, rounds, the report."""

import sys

import pytest

from benchmarks import harness


def test_a_benchmark_has_only_the_shared_options_that_it_asks_for():
    arguments = harness.parser("Question?", rounds=3, seeds=(1, 2)).parse_args([])
    assert (arguments.rounds, arguments.seeds, arguments.no_record) == (3, [1, 2], False)
    assert not hasattr(arguments, "work")
    assert not hasattr(arguments, "peer_python")


def test_a_required_work_folder_must_be_given(capsys):
    with pytest.raises(SystemExit):
        harness.parser("Question?", work="required").parse_args([])
    assert "--work" in capsys.readouterr().err


def test_contenders_alternate():
    order: list[str] = []

    def contender(name: str):
        return lambda: order.append(name) or len(order)

    found = harness.alternate(2, {name: contender(name) for name in ("a", "b")})
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1, 3], "b": [2, 4]}


def test_the_last_line_of_a_process_is_its_result():
    code = "import os; print('noise'); print('{\"threads\": %s}' % os.environ['OMP_NUM_THREADS'])"
    assert harness.run_json([sys.executable, "-c", code], threads=3) == {"threads": 3}


def test_a_failed_process_is_an_error_with_its_message():
    with pytest.raises(RuntimeError, match="out of luck"):
        harness.run([sys.executable, "-c", "raise SystemExit('out of luck')"])


def test_nothing_is_recorded_without_a_record(capsys):
    arguments = harness.parser("Question?").parse_args(["--no-record"])
    assert harness.report(arguments, {}, "| table |") is None
    assert capsys.readouterr().out == "| table |\n"
