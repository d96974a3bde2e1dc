from recsys.data.config import DataConfig
from recsys.data.loader import BatchLoader
from recsys.schema import load_schema


def test_batch(tiny_dataset):
    schema = load_schema(tiny_dataset)
    config = DataConfig(path=tiny_dataset, global_batch_size=64)
    loader = BatchLoader(tiny_dataset, schema, "train", config, seed=0, shuffle=True)
    n = 0
    for batch in loader:
        n += len(batch)
        assert batch.dense.shape == (len(batch), 2)
        batch.sparse["history"].to_padded_dense()
    assert n == 600
