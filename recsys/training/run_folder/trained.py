"""A run that has been trained: its model with the best weights, ready to score."""

from dataclasses import dataclass
from pathlib import Path

from recsys.compat.fbgemm import missing_packages
from recsys.config.run import RunConfig
from recsys.distributed.build import build_on_ranks
from recsys.distributed.context import Ranks
from recsys.distributed.device import choose_device
from recsys.embeddings.optimizers.rowwise_adagrad import RowwiseAdagradConfig
from recsys.models.ctr_model import CTRModel
from recsys.schema import Schema, load_schema
from recsys.training.checkpoint.io import MODEL_PREFIX, SafetensorsCheckpointIO
from recsys.training.run_folder.folder import TRAINING_FILE, load_run_config
from recsys.training.run_folder.progress import RunProgress, find_weights, read_progress


@dataclass(frozen=True)
class TrainedRun:
    """A run: its config, its data and its model with the best weights so far, ready to score.

    `unfinished`: the progress of training, if it has not ended.
    """

    run_dir: Path
    config: RunConfig
    schema: Schema
    dataset_dir: Path
    model: CTRModel
    ranks: Ranks
    unfinished: RunProgress | None = None


def load_trained(
    run_dir: Path | str, ranks: Ranks | None = None, data: Path | str | None = None
) -> TrainedRun:
    """Loads a run with its best weights, in eval mode.

    The model is distributed over `ranks` if there are several. If training has not ended: with the
    best weights so far, or those of the last checkpoint if there was no validation yet. `data`:
    the folder of the dataset, if it was moved.

    Raises:
        RecsysError: if the folder is not a run, has no checkpoint, or a file is damaged.
    """
    run_dir = Path(run_dir)
    config = load_run_config(run_dir)
    schema = load_schema(run_dir)
    checkpoint = find_weights(run_dir)
    unfinished = None
    if not (run_dir / TRAINING_FILE).is_file():
        unfinished = read_progress(checkpoint)
    ranks = ranks or Ranks(choose_device(config.train.device))
    model = build_on_ranks(_to_score(config), schema, ranks).model
    io = SafetensorsCheckpointIO(ranks.checkpoint, ranks.rank)
    dense = io.load_weights(checkpoint, model.embeddings.store.state())
    model.load_dense_state_dict({k.removeprefix(MODEL_PREFIX): v for k, v in dense.items()})
    dataset_dir = config.data.path if data is None else Path(data)
    return TrainedRun(run_dir, config, schema, dataset_dir, model.eval(), ranks, unfinished)


def _to_score(config: RunConfig) -> RunConfig:
    """The same model in the plain store if the fused one is not installed.

    Row-wise Adagrad stands in for the run's optimizer, which scores nothing: its rows are padded
    as those of a fused run's checkpoint are.
    """
    if config.embeddings.store == "plain" or not missing_packages():
        return config
    trained_with = config.train.embedding_optimizer
    optimizer = RowwiseAdagradConfig(
        learning_rate=1.0, l2=trained_with.l2, mini_batch_l2=trained_with.mini_batch_l2
    )
    return config.model_copy(
        update={
            "embeddings": config.embeddings.model_copy(update={"store": "plain"}),
            "train": config.train.model_copy(update={"embedding_optimizer": optimizer}),
        }
    )


def build_model(config: RunConfig, schema: Schema) -> CTRModel:
    """The model of a config, freshly initialized, on one device."""
    return build_on_ranks(config, schema, Ranks(choose_device(config.train.device))).model
