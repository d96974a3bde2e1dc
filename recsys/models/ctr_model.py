"""CTRModel: the whole model, from a physical batch to logits."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.embeddings.collection import FeatureEmbeddings
from recsys.embeddings.feature_methods import row_counts
from recsys.embeddings.tables.regularization import RowL2
from recsys.errors import RecsysError
from recsys.losses import Task
from recsys.models.network import Network

# prefix of the tables in a CTRModel, in torchrec's plans and in state dicts
STORE_PREFIX = "embeddings.store."
# a model's forward pass, plain or wrapped: a batch → logits (B,) and penalty ()
Forward = Callable[[Batch], tuple[Tensor, Tensor]]


class CTRModel(nn.Module):
    """Tables and network; independent of trainer, files and checkpoints."""

    def __init__(self, embeddings: FeatureEmbeddings, network: Network) -> None:
        super().__init__()
        self.embeddings, self.network = embeddings, network
        self.full_batch_rows = 0  # see `RowL2.batch_rows`

    @property
    def task(self) -> Task:
        """The label that is predicted, and its loss."""
        return self.network.task

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch of physical row numbers → logits (B,) and a penalty () to add to their loss."""
        vectors, penalty = self.embeddings(batch.lookups)
        if self.full_batch_rows:
            penalty = penalty * (batch.global_rows / self.full_batch_rows)
        logits, auxiliary = self.network(vectors, batch.dense, batch.labels)
        return logits, penalty + auxiliary

    def dense_parameters(self) -> list[nn.Parameter]:
        """Parameters of the dense optimizer: all except the tables."""
        return [*self.network.parameters(), *self.embeddings.method_modules.parameters()]

    def dense_state_dict(self) -> dict[str, Tensor]:
        """All state that is not in the store; it is equal on every rank."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(STORE_PREFIX)}

    def load_dense_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Loads a result of `dense_state_dict`; the store does not change."""
        self.check_dense_state(state)
        self.load_state_dict(state, strict=False)

    def check_dense_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuses the weights of another model; names the first mismatch."""
        own = {name: tuple(value.shape) for name, value in self.dense_state_dict().items()}
        given = {name: tuple(value.shape) for name, value in state.items()}
        for name in sorted(own.keys() | given.keys()):
            if own.get(name) != given.get(name):
                raise RecsysError(
                    f"the checkpoint is of another model: {name}",
                    expected=own.get(name, "no such weights"),
                    got=given.get(name, "no such weights"),
                )

    def add_row_penalty(self, id_counts: Mapping[str, Tensor], l2: RowL2) -> None:
        """Adds a penalty of the rows that each batch looks up; `id_counts` (V,) by feature."""
        self.full_batch_rows = l2.batch_rows
        counts = row_counts(self.embeddings.methods, id_counts)
        self.embeddings.add_penalties(counts, l2, self.network.vector_columns.device)
