"""Everything that needs a GPU: the tests marked `gpu`, then the measurements; leaves a record.

    python -m benchmarks.gpu                          on the GPU, in 9 minutes at most
    python -m benchmarks.gpu --only steps,lookups
    python -m benchmarks.gpu --device cpu --small --no-record      tries the code in a minute

The most important part comes first; each has a share of the time and a process of its own. The
record lists what failed or was skipped, with the reason.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

from benchmarks import harness
from benchmarks.gpu.tables import to_markdown

# part → its share of the time that is left when its turn comes, relative to the parts after it
SHARES = {"tests": 8, "steps": 5, "lookups": 2, "precision": 4, "from_parquet": 4}
TESTS = ("tests/gpu", "tests/training")  # where tests are marked `gpu`
GRACE_SECONDS = 15  # between asking a process to end and ending it


def main() -> None:
    arguments = parse()
    parts = [name for name in SHARES if name in arguments.only]
    ends_at = time.monotonic() + arguments.minutes * 60
    results: dict[str, dict] = {}
    for i, name in enumerate(parts):
        left = ends_at - time.monotonic()
        seconds = left * SHARES[name] / sum(SHARES[later] for later in parts[i:])
        print(f"{name}: at most {seconds:.0f} s", flush=True)
        results[name] = (
            run_tests(arguments, seconds) if name == "tests" else run_part(arguments, name, seconds)
        )
        print(json.dumps(results[name], indent=1)[-1500:], flush=True)
    harness.report(arguments, results, to_markdown(results, arguments.note))
    if any(result.get("failed") for result in results.values()):
        sys.exit(1)


def run_part(arguments: argparse.Namespace, name: str, seconds: float) -> dict:
    """The points that a part printed, and how it ended if it did not end well."""
    command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks.gpu.part", name]
    command += ["--device", arguments.device, "--seconds", str(seconds - GRACE_SECONDS)]
    command += ["--small"] if arguments.small else []
    output, failure, taken = run(command, seconds)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return {"points": [json.loads(line) for line in lines], "seconds": taken, "failed": failure}


def run_tests(arguments: argparse.Namespace, seconds: float) -> dict:
    """The tests marked `gpu`, and the lines that name what failed or was skipped."""
    command = [sys.executable, "-m", "pytest", "-v", "--show-capture=no", "--tb=short"]
    command += ["-m", "gpu", *TESTS]
    # other versions of other packages may warn on a machine that is not of our making
    command += ["-p", "no:cacheprovider", "-W", "default"]
    command += ["-k", "contract"] if arguments.small else []
    os.environ |= {"RECSYS_GPU_TESTS_ON": arguments.device, "PYTHONUNBUFFERED": "1"}
    output, failure, taken = run(command, seconds)
    printed = output.splitlines() or ["nothing came back"]
    is_whole = re.fullmatch(r"=+ .* in .*=+", printed[-1])
    summary = printed[-1].strip("= ") if is_whole else so_far(output)
    lines = [line for line in printed if line.startswith(("SKIPPED", "FAILED", "ERROR", "E  "))]
    return {"summary": summary, "lines": lines[:80], "seconds": taken, "failed": failure}


def so_far(output: str) -> str:
    """How many tests of a run that was cut off had which result."""
    found = Counter(
        re.findall(r"^tests/\S+::.* (PASSED|FAILED|SKIPPED|ERROR)", output, re.MULTILINE)
    )
    return "cut off after " + ", ".join(f"{n} {result.lower()}" for result, n in found.items())


def run(command: list[str], seconds: float) -> tuple[str, str | None, float]:
    """Standard output, what went wrong if anything, and the seconds that it took."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            code = process.wait(max(seconds, 1))
            failure = None if code == 0 else f"ended with code {code}"
        except subprocess.TimeoutExpired:
            failure = f"ended after {seconds:.0f} s: out of time"
            end(process)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if failure is not None:
        failure = f"{failure}; {errors.strip()[-1500:]}"
        sys.stderr.write(errors[-4000:])
    return output, failure, round(time.monotonic() - start, 1)


def end(process: subprocess.Popen) -> None:
    """Ends a process and what it has started; the tests get a moment to say what failed so far."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def parse() -> argparse.Namespace:
    parser = harness.parser(__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="toy sizes, to try the code")
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", type=parts_named, default=list(SHARES), metavar="PART,PART")
    parser.add_argument("--note", help="a line for the record, such as the commit")
    return parser.parse_args()


def parts_named(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(SHARES)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(SHARES)}")
    return text.split(",")


if __name__ == "__main__":
    main()
