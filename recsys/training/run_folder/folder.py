"""The run folder: its files, how it is started, checked and continued."""

from pathlib import Path

from recsys.config.run import RunConfig, load_stored_config, save_config
from recsys.data.config import DataConfig
from recsys.errors import RecsysError
from recsys.io.atomic import write_json, write_text
from recsys.schema import SCHEMA_FILE, Schema, load_schema
from recsys.training.run_folder.environment import describe_environment

CONFIG_FILE, ENVIRONMENT_FILE = "config.yaml", "environment.json"
TRAINING_FILE, PLAN_FILE = "training.json", "plan.json"


def load_run_config(run_dir: Path) -> RunConfig:
    """The resolved config of a run folder."""
    if not (run_dir / CONFIG_FILE).is_file():
        raise RecsysError(
            f"{run_dir} is not a run folder",
            expected=f"a folder with {CONFIG_FILE}, as `recsys train` writes",
        )
    return load_stored_config(run_dir / CONFIG_FILE)


def check_dataset(run_dir: Path, data: DataConfig) -> None:
    """Refuses a dataset that is missing, or is not the one the run was trained on."""
    if not (data.path / SCHEMA_FILE).is_file():
        raise RecsysError(
            "the dataset of the run is not found",
            where=data.path,
            expected=f"the dataset that {run_dir} was trained on",
            fix="if it has moved, name its folder: `recsys evaluate` and `recsys export` take "
            "--data DIR, `recsys train --resume` and `recsys search --resume` take data.path=DIR",
        )
    if load_schema(run_dir).fingerprint() != data.load_schema().fingerprint():
        raise RecsysError(
            "the dataset has changed since the run was started",
            where=data.path,
            expected=f"the rows that {run_dir / SCHEMA_FILE} describes",
            fix="restore the dataset, or start a new run with --out",
        )


def start_run_folder(run_dir: Path, config: RunConfig, schema: Schema) -> None:
    """Makes a new run folder; refuses one that has other files in it.

    The config is written last: a folder with a config is complete.
    """
    if run_dir.exists() and not _is_unused(run_dir):
        raise RecsysError(
            f"{run_dir} is not empty",
            fix=f"choose another --out, or continue it with `recsys train --resume {run_dir}`",
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(run_dir / SCHEMA_FILE, schema.model_dump_json(indent=1))
        write_json(run_dir / ENVIRONMENT_FILE, describe_environment())
        save_config(config, run_dir, CONFIG_FILE)
    except OSError as error:
        raise RecsysError(
            "the run folder cannot be written", where=run_dir, got=error.strerror
        ) from None


def _is_unused(run_dir: Path) -> bool:
    """True if there is only a lock and files that a killed start left."""
    left = {SCHEMA_FILE, ENVIRONMENT_FILE}
    return all(path.name in left or path.name.startswith(".") for path in run_dir.iterdir())


def continue_run_folder(run_dir: Path, config: RunConfig) -> None:
    """Refuses to resume with another model or other rows; saves changes such as epochs."""
    saved = load_stored_config(run_dir / CONFIG_FILE)
    for section in ("embeddings", "model"):
        if getattr(saved, section) != getattr(config, section):
            raise RecsysError(
                f"the run was started with another `{section}` section: its weights do not fit",
                where=run_dir / CONFIG_FILE,
                fix="resume without that change and in the same embeddings.store, or start a new "
                f"run with --out and train.warm_start={run_dir}",
            )
    check_dataset(run_dir, config.data)
    save_config(config, run_dir, CONFIG_FILE)
