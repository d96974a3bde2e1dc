"""The pairs of a model of histories, and the vectors of ranks for its search stage."""

import math
from pathlib import Path

from safetensors.torch import save_file

from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.methods.base import EmbeddingKey
from recsys.export.signatures import histories_of, input_names_of
from recsys.history_pair import HistoryPair
from recsys.layers.two_stage_attention import RankEmbedding, TwoStageAttention
from recsys.models.base import SEARCH_ROLE
from recsys.models.ctr_model import CTRModel
from recsys.models.network import columns_of
from recsys.models.two_stage import TwoStage
from recsys.schema import Schema
from recsys.serving.features import ExportedPair, ExportedSearch, PhysicalTable
from recsys.serving.table_forms.base import TENSOR_NAME


def write_pairs(model: CTRModel, schema: Schema, folder: Path) -> tuple[ExportedPair, ...]:
    """Describes each pair, and writes the vectors of ranks if its search stage uses them."""
    histories = histories_of(model.embeddings, schema)
    lengths = input_names_of(model.embeddings, histories).lengths
    return tuple(
        ExportedPair(
            target=pair.target,
            history=pair.history,
            lengths=lengths[histories.leaders[pair.history[0]]],
            max_length=longest,
            search=_write_search(model, number, folder),
        )
        for number, (pair, longest) in enumerate(
            zip(histories.pairs, histories.max_lengths, strict=True)
        )
    )


def _write_search(model: CTRModel, number: int, folder: Path) -> ExportedSearch | None:
    """The search stage of one pair; None if the model has none that needs vectors alone."""
    network, pair = model.network.model, model.network.pairs[number]
    if not isinstance(network, TwoStage):
        return None
    stage = network.attention[number]
    assert isinstance(stage, TwoStageAttention)  # ModuleList forgets the type
    ranks = stage.attention_positions or stage.positions
    return ExportedSearch(
        num_found=stage.num_found,
        scale=1 / math.sqrt(_compared_dim(model.embeddings, pair)),
        positions=None if ranks is None else _write_positions(ranks, number, folder),
        position_scale=None if ranks is None else 1 / math.sqrt(ranks.weight.shape[1]),
        same=None if stage.same is None else _target_at(stage.same, model.embeddings, pair),
    )


def _write_positions(ranks: RankEmbedding, number: int, folder: Path) -> PhysicalTable:
    file = f"search/positions.{number}.safetensors"
    weight = ranks.weight.detach().cpu().contiguous()
    (folder / file).parent.mkdir(exist_ok=True)
    save_file({TENSOR_NAME: weight}, folder / file)
    return PhysicalTable(file=file, num_rows=weight.shape[0], dim=weight.shape[1])


def _compared_dim(embeddings: FeatureEmbeddings, pair: HistoryPair) -> int:
    dims, keys = embeddings.output_dims, [EmbeddingKey(name) for name in pair.target]
    return sum(dims.get(key._replace(role=SEARCH_ROLE), dims[key]) for key in keys)


def _target_at(columns: slice, embeddings: FeatureEmbeddings, pair: HistoryPair) -> str:
    """The target of the pair that has these columns."""
    places = columns_of({n: embeddings.output_dims[EmbeddingKey(n)] for n in pair.target})
    return next(name for name, place in places.items() if place == columns)
