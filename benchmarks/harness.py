"""What all benchmarks share: command line, processes, rounds and the report at the end.

arguments = harness.parser(__doc__, rounds=3).parse_args()
...
harness.report(arguments, figures, text)
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from benchmarks.record import write_record

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
PEERS = Path(__file__).parent / "peers"
Need = Literal["required", "optional"]


def parser(
    doc: str | None,
    *,
    rounds: int | None = None,
    seeds: Sequence[int] | None = None,
    work: Need | None = None,
    peer: Need | None = None,
    threads: int | None = None,
) -> argparse.ArgumentParser:
    """A parser with the options that benchmarks share.

    Args:
        doc: the module's docstring.
        rounds, seeds, threads: the defaults of `--rounds`, `--seeds` and `--threads`; without one,
            there is no such option.
        work: whether there is `--work`, and whether it must be given.
        peer: the same for `--peer-python` and `--checkout`.
    """
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--no-record", action="store_true", help="print the result only")
    made.add_argument("--name", help="name of the record; default: the script's")
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    if seeds is not None:
        made.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    if threads is not None:
        made.add_argument("--threads", type=int, default=threads)
    if work is not None:
        help_text = "folder for data and finished runs, which are not repeated"
        made.add_argument("--work", type=Path, required=work == "required", help=help_text)
    if peer is not None:
        needed = peer == "required"
        made.add_argument("--peer-python", type=Path, required=needed, help="the peer's python")
        help_text = "a clone of reczoo/FuxiCTR"
        made.add_argument("--checkout", type=Path, required=needed, help=help_text)
    return made


def report(arguments: argparse.Namespace, figures: Mapping[str, object], text: str) -> Path | None:
    """Prints the result; writes its record and returns the record's path, unless `--no-record`."""
    print(text)
    if arguments.no_record:
        return None
    path = write_record(script_name(), figures, text, arguments.name)
    print(path)
    return path


def script_name() -> str:
    """`speed.training` for `python -m benchmarks.speed.training`."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name if spec else Path(sys.argv[0]).stem
    return name.removeprefix("benchmarks.").removesuffix(".__main__")


def cores() -> int:
    return len(os.sched_getaffinity(0))


def run(
    command: Sequence[object], threads: int | None = None, environment: Mapping[str, str] = {}
) -> str:
    """Standard output of a process; its end on standard error is the message if it fails."""
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    words = [str(part) for part in command]
    done = subprocess.run(
        words, env={**os.environ, **limits, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def run_json(
    command: Sequence[object], threads: int | None = None, environment: Mapping[str, str] = {}
) -> dict:
    """The JSON object on the last line that a process prints."""
    return json.loads(run(command, threads, environment).splitlines()[-1])


def alternate(rounds: int, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Runs every contender once in each round, so that a slow minute affects all of them."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            results[name].append(contender())
            print(f"{name}: {results[name][-1]}", flush=True)
    return results
