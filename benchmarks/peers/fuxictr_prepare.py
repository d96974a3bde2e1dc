"""FuxiCTR's own feature processor on a Criteo CSV with header, timed, in FuxiCTR's environment.

    PYTHONPATH=CHECKOUT PEER_PYTHON fuxictr_prepare.py --train rows.csv --out DIR

Prints one line of JSON: seconds from reading to writing (not the imports), peak RSS in bytes.
"""

import argparse
import json
import logging
import resource
import time
from pathlib import Path

from fuxictr.datasets.criteo import CustomizedFeatureProcessor
from fuxictr.preprocess import build_dataset


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid")
    parser.add_argument("--test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-count", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    arguments.out.mkdir(parents=True, exist_ok=True)
    integers = {
        "name": [f"I{i}" for i in range(1, 14)],
        "active": True,
        "dtype": "float",
        "type": "categorical",
        "fill_na": 0,
        "preprocess": "convert_to_bucket",
    }
    categories = {
        "name": [f"C{i}" for i in range(1, 27)],
        "active": True,
        "dtype": "str",
        "type": "categorical",
        "fill_na": "",
    }
    start = time.perf_counter()
    processor = CustomizedFeatureProcessor(
        feature_cols=[integers, categories],
        label_col={"name": "label", "dtype": "float"},
        dataset_id="prepared",
        data_root=str(arguments.out),
    )
    build_dataset(
        processor,
        train_data=arguments.train,
        valid_data=arguments.valid,
        test_data=arguments.test,
        data_format="csv",
        min_categr_count=arguments.min_count,
    )
    seconds = time.perf_counter() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = sum(usage.ru_maxrss for usage in usages) * 1024
    print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak}))


if __name__ == "__main__":
    main()
