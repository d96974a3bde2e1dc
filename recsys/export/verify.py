"""`recsys verify`: an independent reader scores the rows and must agree with the model."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.export.comparison import COMPARED_VECTOR_ROWS, Comparison, check_encoding
from recsys.export.embeddings import Form
from recsys.export.graph_safety import check_runs_no_code
from recsys.export.manifest import PT2_FILE, Manifest, Parity, add_parity, check_export
from recsys.export.reader import ExportReader
from recsys.export.reference import Reference, RunReference, WholeReference
from recsys.export.rows import read_encoded
from recsys.export.search_check import SearchTies
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
) -> tuple[Parity, ...]:
    """Checks every file, scores `data` by each form and by the model, records it in the manifest.

    Args:
        export_dir: what `recsys export` wrote.
        data: an encoded data set, split folder or Parquet file; with `raw_chunks` only a name.
        raw_chunks: pairs (raw columns, the same rows encoded by the data pipeline). The reader
            gets the first and must arrive at the second.
        run_dir: the run to compare with; by default the one that was exported if it is still
            there, else the export's own model.pt2.

    Raises RecsysError for a damaged file, an id that is encoded differently, an id whose forms
    differ, a vector that differs from the run's by more than 1e-6, or a probability by 1e-5.
    """
    manifest = check_export(export_dir)
    reference = _reference(export_dir, manifest, run_dir)
    ties = SearchTies(export_dir, manifest)
    comparisons = {
        form: Comparison("reader", reference, str(data), manifest, form, ties)
        for form in manifest.forms
    }
    pairs: Iterable[tuple[pl.DataFrame | None, pl.DataFrame]]
    pairs = zip(repeat(None), read_encoded(data, manifest)) if raw_chunks is None else raw_chunks
    rows = 0
    with tempfile.TemporaryDirectory() as exchange, _reader(export_dir, Path(exchange)) as reader:
        reader.check_forms_agree()
        for raw, encoded in pairs:
            reader.score(encoded if raw is None else raw, raw=raw is not None, is_first=rows == 0)
            if raw is not None:
                check_encoding(manifest, raw, reader.encoded(), encoded, rows)
            _compare(comparisons, reader, encoded, is_first=rows == 0)
            rows += len(encoded)
    if not rows:
        raise RecsysError("there is no row to compare", where=data)
    parity = tuple(comparison.result() for comparison in comparisons.values())
    add_parity(export_dir, parity)
    for comparison in comparisons.values():
        comparison.raise_if_failed(ExportReader(export_dir, check=False))
    return parity


def _compare(
    comparisons: Mapping[Form, Comparison],
    reader: "ReaderProcess",
    encoded: pl.DataFrame,
    *,
    is_first: bool,
) -> None:
    """What the reader has just scored, against the reference; the vectors of the first rows."""
    reference = next(iter(comparisons.values())).reference
    expected = reference.logits(encoded)
    head = encoded[:COMPARED_VECTOR_ROWS]
    vectors = reference.vectors(head) if is_first else {}
    for form, comparison in comparisons.items():
        comparison.add(encoded, reader.logits(form), expected)
        if vectors:
            comparison.add_vectors(head, reader.vectors(form), vectors)


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

    def check_forms_agree(self) -> None:
        """Refuses an export whose two forms make different vectors of an id."""
        self._request({"check_forms": True})

    def score(self, rows: pl.DataFrame, *, raw: bool, is_first: bool) -> None:
        """Scores rows by every form; looks at vectors too when they are the first rows."""
        rows.write_ipc(self.exchange / "rows.arrow")
        self._request(
            {
                "rows": str(self.exchange / "rows.arrow"),
                "out": str(self.exchange),
                "raw": raw,
                "vector_rows": COMPARED_VECTOR_ROWS if is_first else 0,
            }
        )

    def logits(self, form: Form) -> NDArray[np.float32]:
        """(B,) of the rows scored last."""
        return np.asarray(self._read(f"scores.{form}.arrow")["logits"].to_numpy())

    def vectors(self, form: Form) -> dict[str, NDArray[np.float32]]:
        """Each embedding's vectors of the first rows, (B, D); of a history (L, D)."""
        return dict(load_file(self.exchange / f"vectors.{form}.safetensors"))

    def encoded(self) -> pl.DataFrame:
        """The reader's own encoding of the raw rows that it scored last."""
        return self._read("encoded.arrow")

    def _read(self, name: str) -> pl.DataFrame:
        # The bytes and not the path: polars would map a file that the next answer overwrites.
        return pl.read_ipc((self.exchange / name).read_bytes())

    def _request(self, request: Mapping[str, object]) -> None:
        answer = self._ask(json.dumps(request))
        if answer["error"] is not None:
            raise RecsysError(answer["error"])

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
