"""The model that the assignment itself describes, counted without downloading it."""

import torch

from hwcli.sentiment.heads import GRUHead, HeadConfig
from hwcli.sentiment.summary import Parameters


def assignment_parameters() -> Parameters:
    """Count a frozen bert-base-uncased below a two-layer bidirectional GRU of 256.

    The config alone decides the counts: on the meta device no weight is loaded or made.
    """
    from transformers import BertConfig, BertModel

    config = BertConfig()  # its defaults are bert-base-uncased's
    with torch.device("meta"):
        encoder = BertModel(config)
        head = GRUHead(config.hidden_size, HeadConfig(kind="gru", hidden=256, layers=2))
    trainable = sum(parameter.numel() for parameter in head.parameters())
    frozen = sum(parameter.numel() for parameter in encoder.parameters())
    return Parameters(total=frozen + trainable, trainable=trainable)
