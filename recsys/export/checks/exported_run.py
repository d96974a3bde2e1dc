"""Verifies an export against a trained run: a named one, or the exported one if it exists."""

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import RecsysError
from recsys.schema import load_schema
from recsys.serving.encoded_rows import check_features
from recsys.serving.manifest import Manifest, Parity, describe_path
from recsys.verification.verify import RawChunk, verify_export

if TYPE_CHECKING:
    from recsys.export.checks.trained_model import RunReference

CONFIG_FILE = "config.yaml"


def verify_with_run(
    export_dir: Path,
    data: Path,
    raw_chunks: Iterable[RawChunk] | None = None,
    *,
    run_dir: Path | None = None,
) -> tuple[Parity, ...]:
    """As `verify_export`, with the run `run_dir` or, by default, the exported run if it exists."""
    return verify_export(export_dir, data, raw_chunks, find_run=partial(find_run, run_dir=run_dir))


def find_run(
    export_dir: Path, manifest: Manifest, run_dir: Path | None = None
) -> "RunReference | None":
    """The run as a reference; None if none is named and the exported one is gone.

    A folder that now holds another run counts as gone.
    """
    is_named = run_dir is not None
    if run_dir is None:
        run_dir = Path(os.path.normpath(export_dir / manifest.run.folder))
    if not (run_dir / CONFIG_FILE).is_file():
        if not is_named:
            return None
        raise RecsysError(
            f"{run_dir} is not a run folder: it has no {CONFIG_FILE}",
            where="--run",
            expected="a folder that `recsys train` wrote",
            got=describe_path(run_dir),
            fix="give the run that was exported, or leave --run out",
        )
    from recsys.export.checks.trained_model import RunReference  # torch, which takes seconds
    from recsys.training.run_folder.folder import load_run_config
    from recsys.training.run_folder.trained import load_trained

    config = load_run_config(run_dir).model_dump_json()
    is_same = hashlib.sha256(config.encode()).hexdigest() == manifest.run.config_sha256
    if not is_named and not is_same:
        return None
    check_features(load_schema(run_dir).features, manifest, run_dir)
    trained = load_trained(run_dir)
    return RunReference(trained.model, trained.schema)
