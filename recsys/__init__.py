"""Trains click-through-rate models in which every feature chooses how it is embedded.

The commands are functions too. Each is imported when it is first used; `verify` and `ExportReader`
need no torch::

    config = recsys.load_config(Path("configs/criteo_kaggle/dcn_v2.yaml"))
    recsys.train(config, Path("runs/dcn_v2"))
    run = recsys.load_run(Path("runs/dcn_v2"))
    recsys.evaluate(run, "test")
    recsys.export_run(run, Path("exports/dcn_v2"))
    recsys.verify(Path("exports/dcn_v2"), Path("datasets/criteo_kaggle"))
    recsys.ExportReader(Path("exports/dcn_v2")).score_raw(raw_rows).probabilities
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys.cli.verification import verify
    from recsys.config.run import load_config
    from recsys.evaluation.score import evaluate_split as evaluate
    from recsys.export.write import export_run
    from recsys.serving.reader import ExportReader
    from recsys.training.run_folder.trained import load_trained as load_run
    from recsys.training.train import train

__version__ = "0.1.0"
__all__ = ["ExportReader", "evaluate", "export_run", "load_config", "load_run", "train", "verify"]

_PLACES = {
    "ExportReader": ("recsys.serving.reader", "ExportReader"),
    "evaluate": ("recsys.evaluation.score", "evaluate_split"),
    "export_run": ("recsys.export.write", "export_run"),
    "load_config": ("recsys.config.run", "load_config"),
    "load_run": ("recsys.training.run_folder.trained", "load_trained"),
    "train": ("recsys.training.train", "train"),
    "verify": ("recsys.cli.verification", "verify"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
