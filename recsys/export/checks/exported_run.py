"""The run that an export is compared with: a named one, or the exported one if it is there."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from recsys.errors import RecsysError
from recsys.schema import Schema, load_schema
from recsys.serving.manifest import Manifest
from recsys.serving.rows import meaning_of

if TYPE_CHECKING:
    from recsys.export.checks.reference import RunReference

CONFIG_FILE = "config.yaml"


def find_run(export_dir: Path, manifest: Manifest, run_dir: Path | None) -> "RunReference | None":
    """The run as a reference; None where none is named and the exported one is gone.

    A folder that now holds another run is as good as gone.
    """
    is_named = run_dir is not None
    if run_dir is None:
        run_dir = Path(os.path.normpath(export_dir / manifest.run.folder))
        if not (run_dir / CONFIG_FILE).is_file():
            return None
    from recsys.export.checks.reference import (
        RunReference,  # torch, which a verify alone does without
    )
    from recsys.training.run_folder.folder import load_run_config
    from recsys.training.run_folder.trained import load_trained

    config = load_run_config(run_dir).model_dump_json()
    is_same = hashlib.sha256(config.encode()).hexdigest() == manifest.run.config_sha256
    if not is_named and not is_same:
        return None
    check_features(load_schema(run_dir), manifest, run_dir)
    trained = load_trained(run_dir)
    return RunReference(trained.model, trained.schema)


def check_features(schema: Schema, manifest: Manifest, run_dir: Path) -> None:
    """Refuses a run of other features than the export has."""
    own = {feature.name: meaning_of(feature) for feature in schema.features}
    exported = {feature.name: meaning_of(feature) for feature in manifest.features}
    differing = [n for n in sorted(own.keys() | exported) if own.get(n) != exported.get(n)]
    if differing:
        name = differing[0]
        raise RecsysError(
            f"the run has other features than the export: {', '.join(differing[:5])}"
            + (" …" if len(differing) > 5 else ""),
            where=run_dir,
            expected=f"{name}: {exported.get(name, 'no such feature')}, as in the export",
            got=f"{name}: {own.get(name, 'no such feature')}",
            fix="give the run that was exported with --run, or leave --run out",
        )
