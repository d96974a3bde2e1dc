"""Criteo display ads: the Kaggle file, the 1 TB day files, and two splits of the x4 benchmark.

Tab-separated, without a header: label, I1-I13 (counts, some negative), C1-C26 (8 hex digits). All
but the label may be missing.
"""

from data_pipelines.recipe import Recipe
from data_pipelines.rules.columns import Categorical, Numerical
from data_pipelines.rules.files import FileFormat
from data_pipelines.rules.splits import ByTime, StratifiedFolds
from data_pipelines.source import DataSource
from recsys.schema import CriteoBucket

INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))

KAGGLE = Recipe(
    name="criteo_kaggle",
    file=FileFormat(
        separator="\t", header=False, columns=("label", *INTEGERS, *CATEGORIES), quote=None
    ),
    numerical=Numerical(columns=INTEGERS, transform=CriteoBucket(shift=2)),
    categorical=Categorical(columns=CATEGORIES),
)

# The day files are in time order; the last days are valid and test.
ONE_TERABYTE = KAGGLE.model_copy(
    update={"name": "criteo_1tb", "min_count": 10, "split": ByTime(fractions=(0.9, 0.05, 0.05))}
)

# Missing integers become 0, and 0 has no token: both are id 0.
X4_001 = KAGGLE.model_copy(
    update={
        "name": "criteo_x4_001",
        "numerical": Numerical(columns=INTEGERS, transform=CriteoBucket(missing=0, absent=(0,))),
        "min_count": 10,
        "split": StratifiedFolds(),
    }
)
X4_002 = X4_001.model_copy(update={"name": "criteo_x4_002", "min_count": 2})

CRITEO = DataSource(datasets=(KAGGLE, ONE_TERABYTE, X4_001, X4_002))
