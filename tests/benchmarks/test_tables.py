"""Tables, and intervals over seeds against values of the t table."""

from benchmarks.tables import by_seed, mean_std, paired, table, unpaired


def test_paired_differences_have_students_interval():
    # mean 2, standard error 1 / √3, t(2) = 4.3027
    assert paired([1.0, 2.0, 3.0]) == "+2.0000 ± 2.4841"
    assert paired([-0.5]) == "-0.5000"


def test_unpaired_seeds_have_welchs_interval():
    # equal variances of 1 and sizes of 3: standard error √(2/3), 4 degrees of freedom, t = 2.7764
    assert unpaired([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]) == "+1.0000 ± 2.2670"
    assert unpaired([1.0], [0.0, 1.0]) == "+0.5000"


def test_a_table_has_a_head_a_rule_and_its_rows():
    assert table(["a", "b"], [[1, "x"], [2, "y"]]) == "| a | b |\n|---|---|\n| 1 | x |\n| 2 | y |"


def test_mean_and_standard_deviation():
    assert mean_std([0.5, 0.7], digits=2) == "0.60 ± 0.14"
    assert mean_std([0.25], sign="+") == "+0.2500 ± 0.0000"
    assert mean_std([], none="not run") == "not run"


def test_figures_are_grouped_by_keys_and_listed_by_seed():
    runs = [
        {"model": "din", "seed": 1, "auc": 0.7},
        {"model": "dare", "seed": 1, "auc": 0.8},
        {"model": "din", "seed": 2, "auc": 0.6, "gauc": 0.5},
    ]
    assert by_seed(runs, ["model"], ["auc", "gauc"]) == {
        "din": {"seed": [1, 2], "auc": [0.7, 0.6], "gauc": [0.5]},
        "dare": {"seed": [1], "auc": [0.8]},
    }
