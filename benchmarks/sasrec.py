"""SASRec, a transformer over a user's latest events: a peer that takes longer than all others together."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recsys.backtest.baselines import Kind, Scores, Settings
from recsys.shop.histories import Histories

WIDTH, HEADS, LAYERS = 64, 2, 2
BATCH, NEGATIVES = 128, 256
LATER_EPOCHS = 1


class SasRec(nn.Module):
    """A causal transformer: a sequence of sales → at each event, a vector near those of the sales that follow.

    Source:
        Kang and McAuley 2018, "Self-Attentive Sequential Recommendation"; with a softmax over sampled sales instead of
        one negative per event, which Klenitskiy and Vasilev 2023 show to be better.
    """

    def __init__(self, n_sales: int, length: int, dropout: float):
        super().__init__()
        self.sales = nn.Embedding(n_sales, WIDTH)
        self.positions = nn.Embedding(length, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        for embedding in (self.sales, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Return vectors (n, length, WIDTH) of sequences (n, length) that are padded at their end, which none sees."""
        length = sequences.shape[1]
        inputs = self.dropout(self.sales(sequences) * WIDTH**0.5 + self.positions.weight[:length])
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.encoder(inputs, mask, is_causal=True)


@dataclass
class SasRecs:
    """Models by their settings: as of a later day, a model is trained further from that of the last one."""

    models: dict[tuple, tuple[int, SasRec, torch.optim.Optimizer]] = field(default_factory=dict)

    def fit(self, known: Histories, settings: Settings) -> Scores:
        """Return scores by the vector after the user's last event.

        A user without events has no order; a sale without events is last.
        """
        key, length = tuple(settings.items()), int(settings["length"])
        as_of, model, optimizer = self.models.get(key, (known.as_of, None, None))
        epochs = LATER_EPOCHS
        if model is None or as_of >= known.as_of:
            torch.manual_seed(0)
            model = SasRec(known.n_sales, length, settings["dropout"])
            optimizer, epochs = torch.optim.Adam(model.parameters(), lr=1e-3), int(settings["epochs"])
        train(model, optimizer, *chunks(known, length), epochs)
        self.models[key] = known.as_of, model, optimizer
        vectors, is_known = last_vectors(model, known, length), np.diff(known.offsets) > 0
        has_events = np.bincount(known.sales, minlength=known.n_sales) > 0
        sales, lowest = model.sales.weight.detach().numpy().copy(), np.finfo(np.float32).min
        return lambda rows: np.where(has_events, (vectors * is_known[:, None])[rows] @ sales.T, lowest)


def train(model: SasRec, optimizer: torch.optim.Optimizer, sequences: NDArray, lengths: NDArray, epochs: int) -> None:
    """Train a model to tell the next event of each sequence from NEGATIVES sales drawn uniformly per batch."""
    random = np.random.default_rng(0)
    model.train()
    for _ in range(epochs):
        for rows in np.array_split(random.permutation(len(sequences)), -(-len(sequences) // BATCH)):
            batch = torch.from_numpy(sequences[rows])
            is_event = torch.arange(batch.shape[1] - 1) < torch.from_numpy(lengths[rows] - 1)[:, None]
            vectors, targets = model(batch[:, :-1])[is_event], batch[:, 1:][is_event]
            drawn = torch.from_numpy(random.integers(0, model.sales.num_embeddings, NEGATIVES))
            negatives = vectors @ model.sales(drawn).T
            negatives = negatives.masked_fill(drawn == targets[:, None], -torch.inf)
            positives = (vectors * model.sales(targets)).sum(dim=1, keepdim=True)
            logits = torch.cat([positives, negatives], dim=1)
            loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def chunks(known: Histories, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all histories in sequences of at most length + 1 events, the latest event of a user being the last of one.

    Neighbouring sequences share an event, so that each event but a user's first is a target once.

    Returns:
        Sales, shape (n, length + 1), padded with 0 at the end; and their numbers of events, from 2 on, shape (n,).
    """
    sequences = [
        known.sales[max(start, end - length - 1) : end]
        for start, stop in pairwise(known.offsets.tolist())
        for end in range(stop, start + 1, -length)
    ]
    return padded(sequences, length + 1), np.array([len(each) for each in sequences], np.int64)


def padded(sequences: list[NDArray[np.int32]], length: int) -> NDArray[np.int64]:
    """Return sequences as one array, padded with 0 at the end."""
    rows = np.zeros((len(sequences), length), np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = sequence
    return rows


@torch.no_grad()
def last_vectors(model: SasRec, known: Histories, length: int) -> NDArray[np.float32]:
    """Return the vector after each user's last event, shape (n_users, WIDTH); without any event, it says nothing."""
    model.eval()
    latest = [known.sales[max(start, stop - length) : stop] for start, stop in pairwise(known.offsets.tolist())]
    last = np.maximum([len(each) - 1 for each in latest], 0)
    sequences, parts = padded(latest, length), range(0, len(latest), 1024)
    vectors = [model(torch.from_numpy(sequences[start : start + 1024])).numpy() for start in parts]
    return np.concatenate(vectors)[np.arange(len(latest)), last]


def sequential() -> tuple[Kind, ...]:
    """Return the kind SASRec, without any model yet."""
    return (Kind("SASRec", SasRecs().fit, {"length": (50,), "dropout": (0.2, 0.5), "epochs": (20,)}),)
