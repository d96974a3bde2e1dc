"""What brings fields to one width is part of the exported graphs."""

import numpy as np
import onnxruntime
import pytest
import torch

from recsys.distributed.build import build_ctr_model
from recsys.embeddings.config import EmbeddingsConfig
from recsys.embeddings.methods.full_table import FullTableConfig
from recsys.embeddings.optimizers import SgdConfig
from recsys.export.graphs import load_whole_graph, write_graphs
from recsys.models.autoint import AutoIntConfig
from recsys.schema import Feature, Schema
from recsys.serving.graph_spec import ONNX_FILE

DIMS = {"a": 6, "b": 4, "c": 6, "d": 2, "e": 6}
ROWS = 7


@pytest.mark.parametrize("how", ["project", "pad"])
def test_both_graphs_score_fields_of_several_widths(how, tmp_path):
    features = [Feature(name=n, kind="categorical", column=n, cardinality=9) for n in DIMS]
    schema = Schema(name="x", features=tuple(features), splits={})
    widths = {name: FullTableConfig(embedding_dim=dim) for name, dim in DIMS.items()}
    features = {name: {"method": method} for name, method in widths.items()}
    model = build_ctr_model(
        EmbeddingsConfig(default=widths["b"], features=features, store="plain"),
        AutoIntConfig(num_layers=1, attention_dim=4, mixed_widths=how),
        SgdConfig(learning_rate=0.1),
        schema,
        seed=0,
        device=torch.device("cpu"),
    ).eval()
    generator = torch.Generator().manual_seed(1)
    tables = model.embeddings.store.weights()
    for table in tables.values():
        table.normal_(generator=generator)
    ids = {n: torch.randint(9, (ROWS,), generator=generator) for n in DIMS}
    vectors = {name: tables[name][ids[name]] for name in DIMS}
    with torch.no_grad():
        logits = model.network.score(
            torch.cat([*vectors.values()], 1), torch.zeros(ROWS, 0)
        ).numpy()
    assert logits.std() > 0.1

    write_graphs(model, schema, "autoint", tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / ONNX_FILE)
    dense = session.run(["logits"], {name: v.numpy() for name, v in vectors.items()})[0]
    whole = load_whole_graph(tmp_path)(*ids.values())[0].detach().numpy()
    np.testing.assert_allclose(dense, logits, atol=1e-5)
    np.testing.assert_allclose(whole, logits, atol=1e-5)
