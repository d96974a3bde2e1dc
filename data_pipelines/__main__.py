"""`python -m data_pipelines NAME --raw FILE --out DIR [key=value …]`: prepare without torch."""

import argparse
import sys
from pathlib import Path

from data_pipelines import DATASETS, prepare
from recsys.errors import RecsysError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m data_pipelines", description=__doc__)
    parser.add_argument("name", help=f"{', '.join(DATASETS)}, or a recipe's path")
    parser.add_argument("--raw", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args()
    try:
        schema = prepare(
            arguments.name,
            arguments.raw,
            arguments.out,
            arguments.overrides,
            overwrite=arguments.overwrite,
        )
    except RecsysError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, split in schema.splits.items():
        sys.stdout.write(f"{name}: {split.rows} rows, {split.positives} positives\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
