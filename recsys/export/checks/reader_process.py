"""The independent reader in a process of its own, in which torch cannot be imported."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file

from recsys.errors import RecsysError
from recsys.export.checks.comparison import COMPARED_VECTOR_ROWS
from recsys.serving.features import Form

# None in sys.modules makes an import fail: the reader cannot use torch even by accident.
READER_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchrec", "fbgemm_gpu", "lightning")))
from pathlib import Path
from recsys.serving.reader import serve
serve(Path(sys.argv[1]))
"""


class ReaderProcess:
    """The independent reader in a process of its own, in which torch cannot be imported."""

    def __init__(
        self, process: "subprocess.Popen[str]", errors: IO[str], exchange: Path, export_dir: Path
    ) -> None:
        self.process, self.errors, self.exchange = process, errors, exchange
        self.export_dir = export_dir

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
            self._explain_end()
        answer: dict[str, str | None] = json.loads(line)
        return answer

    def _explain_end(self) -> NoReturn:
        code = self.process.wait()
        if code < 0:
            raise RecsysError(
                "the process that scores the export was ended by the system",
                where=self.export_dir,
                got=signal.Signals(-code).name,
                fix="SIGKILL: there is too little memory for this export; else: the graph is "
                "damaged in a way that onnxruntime does not survive",
            )
        self.errors.seek(0)
        raise RuntimeError(f"the reader's process died:\n{self.errors.read()[-2000:]}")


@contextmanager
def start_reader(export_dir: Path, exchange: Path) -> Iterator[ReaderProcess]:
    """Files are handed over in the folder `exchange`."""
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
