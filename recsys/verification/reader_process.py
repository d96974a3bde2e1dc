"""Runs the reader in a process of its own, in which torch cannot be imported.

Requests and answers are JSON objects, one a line; rows, scores and vectors are files in a folder.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from recsys.errors import RecsysError
from recsys.serving.reader import ExportReader

COMPARED_VECTOR_ROWS = 4096

# None in sys.modules makes an import fail: the reader cannot use torch even by accident.
READER_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchrec", "fbgemm_gpu", "lightning")))
from pathlib import Path
from recsys.verification.reader_process import answer_requests
answer_requests(Path(sys.argv[1]))
"""


class ReaderProcess:
    """Sends requests to the process, and reads its answers."""

    def __init__(
        self, process: "subprocess.Popen[str]", errors: IO[str], exchange: Path, export_dir: Path
    ) -> None:
        self.process, self.errors, self.exchange = process, errors, exchange
        self.export_dir = export_dir

    def check_forms_agree(self) -> None:
        """Raises RecsysError if two table forms hold different vectors of an id."""
        self._request({"check_forms": True})

    def score(self, rows: pl.DataFrame, *, raw: bool, is_first: bool) -> None:
        """Scores rows with every form; for the first rows of the data, reads their vectors too."""
        rows.write_ipc(self.exchange / "rows.arrow")
        self._request(
            {
                "rows": str(self.exchange / "rows.arrow"),
                "out": str(self.exchange),
                "raw": raw,
                "vector_rows": COMPARED_VECTOR_ROWS if is_first else 0,
            }
        )

    def logits(self, form: str) -> NDArray[np.float32]:
        """Logits (B,) of the rows scored last."""
        return np.asarray(self._read(f"scores.{form}.arrow")["logits"].to_numpy())

    def vectors(self, form: str) -> dict[str, NDArray[np.float32]]:
        """Each embedding's vectors of the first rows, (B, D); of a history (L, D)."""
        return dict(load_file(self.exchange / f"vectors.{form}.safetensors"))

    def encoded(self) -> pl.DataFrame:
        """The reader's own encoding of the raw rows that it scored last."""
        return self._read("encoded.arrow")

    def _read(self, name: str) -> pl.DataFrame:
        # Bytes, not the path: polars would map a file that the next answer overwrites.
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
            self._explain_end()
        answer: dict[str, str | None] = json.loads(line)
        return answer

    def _explain_end(self) -> NoReturn:
        code = self.process.wait()
        if code < 0:
            raise RecsysError(
                "the system ended the process that scores the export",
                where=self.export_dir,
                got=signal.Signals(-code).name,
                fix="for SIGKILL: use a machine with more memory; otherwise the graph is damaged "
                "and crashes onnxruntime: export the run again",
            )
        self.errors.seek(0)
        raise RuntimeError(f"the reader's process died:\n{self.errors.read()[-2000:]}")


@contextmanager
def start_reader(export_dir: Path, exchange: Path) -> Iterator[ReaderProcess]:
    """Starts the process; files are exchanged in the folder `exchange`."""
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
                yield ReaderProcess(process, errors, exchange, export_dir)
            finally:
                process.kill()


def answer_requests(export_dir: Path) -> None:
    """The process's main loop: reads requests from stdin, and writes {error} to stdout for each.

    {check_forms: true} compares the table forms. {rows: file, raw: bool, vector_rows: n,
    out: folder} writes `scores.FORM.arrow` and, of the first n rows, `vectors.FORM.safetensors`
    for each form, and `encoded.arrow` if the rows are raw.
    """
    reader = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reader = reader or ExportReader(export_dir)
            if "check_forms" in request:
                reader.check_forms_agree()
            else:
                _score_rows(reader, request, Path(request["out"]))
            error = None
        except RecsysError as refusal:
            error = str(refusal)
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


def _score_rows(reader: ExportReader, request: dict[str, Any], out: Path) -> None:
    encoded = pl.read_ipc(Path(request["rows"]).read_bytes())
    if request["raw"]:
        encoded = reader.encoder.encode(encoded)
        encoded.write_ipc(out / "encoded.arrow")
    head = encoded[: request["vector_rows"]]
    for form in reader.manifest.forms:
        pl.DataFrame(reader.score(encoded, form)._asdict()).write_ipc(out / f"scores.{form}.arrow")
        save_file(reader.vectors(head, form), out / f"vectors.{form}.safetensors")
