"""How many files of the product a reader has to open to follow one training step."""

import sys
from pathlib import Path

import pytest
import torch

import recsys
from recsys.config.base import validate
from recsys.config.run import RunConfig
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks
from recsys.schema import load_schema
from recsys.training.lightning.module import CTRModule
from recsys.training.loaders import build_loader

ROOT = str(Path(recsys.__file__).parent)
MOST_FILES = 20


class OneStep:
    """What the module asks of Lightning's trainer in a step that is neither logged nor last."""

    global_step = 0
    is_last_batch = False


class StepModule(CTRModule):
    """The module without Lightning's loop."""

    @property
    def trainer(self):
        return OneStep()

    def log(self, *arguments, **options):
        pass

    def manual_backward(self, loss):
        loss.backward()

    def _optimizers(self):
        return self.own_optimizers


@pytest.fixture(scope="module")
def step(tiny_dataset):
    """The module of AutoInt+ with a hashed feature, and a batch to train it on."""
    content = {
        "data": {"path": str(tiny_dataset), "global_batch_size": 64, "num_workers": 1},
        "embeddings": {
            "default": {"method": "full_table", "embedding_dim": 8},
            "features": {"item": {"method": "hashed", "embedding_dim": 8, "num_buckets": 16}},
        },
        "model": {"name": "autoint", "hidden_dims": [16]},
        "train": {
            "epochs": 1,
            "dense_optimizer": {"name": "adam", "learning_rate": 1e-3},
            "embedding_optimizer": {"name": "rowwise_adagrad", "learning_rate": 0.1},
        },
    }
    config = validate(RunConfig, content, "test")
    schema, ranks = load_schema(tiny_dataset), Ranks(torch.device("cpu"))
    model = build_on_ranks(config, schema, ranks).model
    module = StepModule(model, config.train, ranks)
    module.own_optimizers = module.configure_optimizers()
    loader = build_loader(config, schema, "train", model, ranks, shuffle=True)
    return module, next(iter(loader))


def files_of(run) -> set[str]:
    """Files of the product in which a function is called while `run` runs in this thread."""
    files = set()

    def note(frame, *_):
        name = frame.f_code.co_filename
        if name.startswith(ROOT):
            files.add(name.removeprefix(ROOT))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return files


def test_a_training_step_runs_in_few_files(step):
    module, batch = step
    module.training_step(batch, 0)  # whatever happens once only
    files = files_of(lambda: module.training_step(batch, 1))
    assert len(files) <= MOST_FILES, sorted(files)
    assert {"/training/lightning/module.py", "/embeddings/methods/hashed.py"} <= files
