"""One trained network in detail: its mistakes, its attention, its position embeddings."""

from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure

from hwcli.vision import network_pictures as pictures
from hwcli.vision.attention_maps import (
    attention_maps,
    patch_attention,
    position_similarity,
    rollout,
)
from hwcli.vision.cells import Predictions
from hwcli.vision.fashion_mnist import FashionMNIST
from hwcli.vision.recipe import TrialConfig
from hwcli.vision.training import trained_model

FROM_WEIGHTS = ("rollout", "positions")
NAMES = ("confusion", "mistakes", *FROM_WEIGHTS)


@dataclass(frozen=True)
class TrainedNetwork:
    """One trained network.

    Attributes:
        config: what it is and how it was trained.
        predictions: of the test images; None where they are not kept.
        checkpoint: the file of its weights, which may be gone; None where none is its own.
        data: the images.
        who: names it in titles.
    """

    config: TrialConfig
    predictions: Predictions | None
    checkpoint: Path | None
    data: FashionMNIST
    who: str


def draw_network(network: TrainedNetwork) -> dict[str, Figure]:
    """Return the pictures of one network by name; those of its weights if they are kept."""
    predictions, who = network.predictions, network.who
    if predictions is None:
        return {}
    test = network.data.test
    predicted = torch.from_numpy(predictions.label).long()
    probability = torch.from_numpy(predictions.probability)
    figures: dict[str, Figure | None] = {
        "confusion": pictures.draw_confusion(test.labels, predicted, f"Test images: {who}"),
        "mistakes": pictures.draw_mistakes(
            test.images, test.labels, predicted, probability, f"Most confident mistakes: {who}"
        ),
    }
    file = network.checkpoint
    model = None if file is None else trained_model(network.config, file)
    if model is not None:
        one_of_each = [int((test.labels == k).nonzero()[0]) for k in test.labels.unique()]
        images = test.images[one_of_each]
        maps = attention_maps(model, network.data.normalize(images))
        figures["rollout"] = pictures.draw_rollout(
            images,
            patch_attention(rollout(maps), network.config.model.pooling),
            test.labels[one_of_each],
            predicted[one_of_each],
            f"Attention rollout: {who}",
        )
        figures["positions"] = pictures.draw_positions(
            position_similarity(model), f"Position embeddings: {who}"
        )
    return {name: figure for name, figure in figures.items() if figure is not None}
