"""`recsys verify`: an independent reader scores the rows and must agree with the model."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import RecsysError
from recsys.export.comparison import Comparison, check_encoding
from recsys.export.graph_safety import check_runs_no_code
from recsys.export.manifest import PT2_FILE, Manifest, Parity, add_parity, check_export
from recsys.export.reader import ExportReader
from recsys.export.reference import Reference, RunReference, WholeReference
from recsys.export.rows import read_encoded
from recsys.training.runs import CONFIG_FILE, load_trained

RawChunk = tuple[pl.DataFrame, pl.DataFrame]
# None in sys.modules makes an import fail: the reader cannot use torch even by accident.
READER_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchrec", "fbgemm_gpu", "lightning")))
from pathlib import Path
from recsys.export.reader import serve
serve(Path(sys.argv[1]))
"""


def verify_export(
    export_dir: Path,
    data: Path,
    raw_chunks: Iterable[RawChunk] | None = None,
    *,
    run_dir: Path | None = None,
) -> Parity:
    """Checks every file, scores `data` twice, writes the result into the manifest.

    Args:
        export_dir: what `recsys export` wrote.
        data: an encoded data set, split folder or Parquet file; with `raw_chunks` only a name.
        raw_chunks: pairs (raw columns, the same rows encoded by the data pipeline). The reader
            gets the first and must arrive at the second.
        run_dir: the run to compare with; by default the one that was exported if it is still
            there, else the export's own model.pt2.

    Raises RecsysError for a damaged file, an id that is encoded differently, or a probability that
    differs by more than 1e-5.
    """
    manifest = check_export(export_dir)
    reference = _reference(export_dir, manifest, run_dir)
    comparison = Comparison("reader", reference, str(data), manifest)
    pairs: Iterable[tuple[pl.DataFrame | None, pl.DataFrame]] = (
        raw_chunks
        if raw_chunks is not None
        else zip(repeat(None), read_encoded(data, manifest), strict=False)
    )
    with tempfile.TemporaryDirectory() as exchange, _reader(export_dir, Path(exchange)) as reader:
        for raw, encoded in pairs:
            logits = reader.score(encoded if raw is None else raw, raw=raw is not None)
            if raw is not None:
                check_encoding(manifest, raw, reader.encoded(), encoded, comparison.rows)
            comparison.add(encoded, logits, reference.logits(encoded))
    if not comparison.rows:
        raise RecsysError("there is no row to compare", where=data)
    parity = comparison.result()
    add_parity(export_dir, parity)
    if not parity.passed:
        comparison.raise_if_failed(ExportReader(export_dir, check=False))
    return parity


def _reference(export_dir: Path, manifest: Manifest, run_dir: Path | None) -> Reference:
    if run_dir is None:
        run_dir = Path(os.path.normpath(export_dir / manifest.run.folder))
        if not (run_dir / CONFIG_FILE).is_file():
            check_runs_no_code(export_dir / PT2_FILE)
            return WholeReference(export_dir, manifest)
    trained = load_trained(run_dir)
    return RunReference(trained.model, trained.schema)


class ReaderProcess:
    """The independent reader in a process of its own, in which torch cannot be imported."""

    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str], exchange: Path) -> None:
        self.process, self.errors, self.exchange = process, errors, exchange

    def score(self, rows: pl.DataFrame, *, raw: bool) -> NDArray[np.float32]:
        """Rows → logits (B,)."""
        rows.write_ipc(self.exchange / "rows.arrow")
        request = {
            "rows": str(self.exchange / "rows.arrow"),
            "out": str(self.exchange),
            "raw": raw,
        }
        answer = self._ask(json.dumps(request))
        if answer["error"] is not None:
            raise RecsysError(answer["error"])
        scores = self._read("scores.arrow")
        return np.asarray(scores["logits"].to_numpy())

    def encoded(self) -> pl.DataFrame:
        """The reader's own encoding of the raw rows that it scored last."""
        return self._read("encoded.arrow")

    def _read(self, name: str) -> pl.DataFrame:
        # The bytes and not the path: polars would map a file that the next answer overwrites.
        return pl.read_ipc((self.exchange / name).read_bytes())

    def _ask(self, request: str) -> dict[str, str | None]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(f"the reader's process died:\n{self.errors.read()[-2000:]}")
        answer: dict[str, str | None] = json.loads(line)
        return answer


@contextmanager
def _reader(export_dir: Path, exchange: Path) -> Iterator[ReaderProcess]:
    with (exchange / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", READER_PROGRAM, str(export_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                yield ReaderProcess(process, errors, exchange)
            finally:
                process.kill()
