"""Commands without torch: prepare a dataset, or check one for leakage.

python -m data_pipelines NAME --raw FILE --out DIR [key=value ...]
python -m data_pipelines check DIR --raw LOG
"""

import argparse
import sys
from pathlib import Path

from data_pipelines import check_leakage, describe_datasets, prepare
from recsys.errors import RecsysError
from recsys.io.stop_signals import ended_by_signals


@ended_by_signals()
def main() -> int:
    try:
        if sys.argv[1:2] == ["check"]:
            check(sys.argv[2:])
        else:
            run(sys.argv[1:])
    except RecsysError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def check(arguments: list[str]) -> None:
    """Checks a dataset for leakage; the first one is a RecsysError."""
    parser = argparse.ArgumentParser(prog="python -m data_pipelines check")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--raw", type=Path, nargs="*", default=(), help="the event log")
    parsed = parser.parse_args(arguments)
    check_leakage(parsed.dataset, parsed.raw)
    sys.stdout.write(f"no leakage found in {parsed.dataset}\n")


def run(command_line: list[str]) -> None:
    """Prepares a dataset, and prints its splits, dropped rows and warnings."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines",
        description=__doc__,
        epilog=describe_datasets(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a built-in dataset, or the path of a recipe in YAML")
    parser.add_argument("--raw", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(command_line)
    schema = prepare(
        arguments.name,
        arguments.raw,
        arguments.out,
        arguments.overrides,
        overwrite=arguments.overwrite,
    )
    for name, split in schema.splits.items():
        sys.stdout.write(f"{name}: {split.rows} rows, {split.positives} positives\n")
    for reason, rows in schema.dropped_rows.items():
        sys.stdout.write(f"dropped: {rows} rows: {reason}\n")
    for warning in schema.warnings:
        sys.stdout.write(f"warning: {warning}\n")


if __name__ == "__main__":
    sys.exit(main())
