"""Tiny checkpoints of every architecture that the encoder code is tested with."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from tests.sentiment.tiny import VOCABULARY, save_tokenizer, save_untrained

POSITIONS = 41
SMALL = {
    "vocab_size": len(VOCABULARY),
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 22,
    "intermediate_size": 29,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
}
DEBERTA = {
    **SMALL,
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}
CONFIGS: Mapping[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "albert": lambda: transformers.AlbertConfig(**SMALL, embedding_size=13),
    "electra": lambda: transformers.ElectraConfig(**SMALL, embedding_size=13),
    "roberta": lambda: transformers.RobertaConfig(**SMALL),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL),
    "camembert": lambda: transformers.CamembertConfig(**SMALL),
    "mpnet": lambda: transformers.MPNetConfig(**SMALL),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=len(VOCABULARY),
        n_layers=2,
        n_heads=2,
        dim=22,
        hidden_dim=29,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    ),
    "deberta-v2": lambda: transformers.DebertaV2Config(**DEBERTA),
    "deberta-v3": lambda: transformers.DebertaV2Config(**DEBERTA, position_biased_input=False),
    "modernbert": lambda: transformers.ModernBertConfig(
        **{**SMALL, "hidden_size": 24},
        local_attention=6,
        global_attn_every_n_layers=2,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    ),
}


def make_checkpoint(kind: str, folder: Path, *, vocabulary: int | None = None) -> Path:
    """Write a checkpoint of an architecture, with the tokenizer of :mod:`tests.sentiment.tiny`."""
    save_tokenizer(folder)
    config = CONFIGS[kind]()
    if vocabulary is not None:
        config.vocab_size = vocabulary
    return save_untrained(folder, lambda: transformers.AutoModel.from_config(config))
