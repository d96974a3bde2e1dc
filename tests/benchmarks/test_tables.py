"""Intervals over seeds against values of the t table."""

from benchmarks.tables import paired, unpaired


def test_paired_differences_have_students_interval():
    # mean 2, standard error 1 / √3, t(2) = 4.3027
    assert paired([1.0, 2.0, 3.0]) == "+2.0000 ± 2.4841"
    assert paired([-0.5]) == "-0.5000"


def test_unpaired_seeds_have_welchs_interval():
    # equal variances of 1 and sizes of 3: standard error √(2/3), 4 degrees of freedom, t = 2.7764
    assert unpaired([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]) == "+1.0000 ± 2.2670"
    assert unpaired([1.0], [0.0, 1.0]) == "+0.5000"
