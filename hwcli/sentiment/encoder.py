"""A pretrained transformer and its tokenizer, loaded from a folder and nothing else.

Weights come as safetensors only, and no code of a checkpoint's is ever run.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hwcli.errors import SourceError
from hwcli.sentiment.tokens import valid_tokens

Pooling = Literal["mean", "cls"]


def checkpoint_digest(folder: Path) -> str:
    """Return the digest of a checkpoint's weights, config and tokenizer.

    Raises:
        SourceError: the folder lacks weights as safetensors, or a config.
    """
    weights = sorted(folder.glob("*.safetensors"))
    config = folder / "config.json"
    if not weights or not config.is_file():
        lack = "config.json" if weights else "weights as *.safetensors"
        raise SourceError(f"encoder: {folder} has no {lack}")
    vocabulary = [
        path
        for pattern in ("tokenizer*", "vocab*", "merges.txt")
        for path in sorted(folder.glob(pattern))
    ]
    whole = hashlib.sha256()
    for path in [config, *weights, *vocabulary]:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def load_tokenizer(folder: Path) -> Any:
    """Load a checkpoint's fast tokenizer.

    Raises:
        SourceError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # Damaged files surface as whatever the parser in question happens to raise.
        raise SourceError(f"encoder: {folder}: no tokenizer to be had ({_line(error)})") from None
    if not tokenizer.is_fast or None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        raise SourceError(f"encoder: {folder}: not of BERT's family (no [CLS] and [SEP])")
    return tokenizer


def load_encoder(
    folder: Path, *, num_layers: int | None = None, dropout: float | None = None
) -> nn.Module:
    """Load a checkpoint's encoder in float32, in eval mode.

    Args:
        folder: that holds it.
        num_layers: keep only the first so many.
        dropout: of hidden states while it is fine-tuned; attention then has none, which would
            cost a CPU more than it gives.

    Raises:
        SourceError: it is damaged, of a kind unknown to transformers, or has fewer layers.
    """
    from transformers import AutoModel

    config = _config(folder, num_layers, dropout)
    return _load(AutoModel, folder, config)


def load_classifier(folder: Path, *, dropout: float | None = None) -> nn.Module:
    """Load a checkpoint with transformers' own classification head, two classes by our names.

    Raises:
        SourceError: as in :func:`load_encoder`.
    """
    from transformers import AutoModelForSequenceClassification

    from hwcli.sentiment.reviews import LABELS

    config = _config(folder, None, dropout)
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: index for index, name in enumerate(LABELS)}
    return _load(AutoModelForSequenceClassification, folder, config)


def _config(folder: Path, num_layers: int | None, dropout: float | None) -> Any:
    from transformers import AutoConfig

    checkpoint_digest(folder)  # says in one line what is missing
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if num_layers is not None:
            if not 1 <= num_layers <= config.num_hidden_layers:
                raise SourceError(
                    f"num_encoder_layers = {num_layers}: the encoder has "
                    f"{config.num_hidden_layers}; choices: 1..{config.num_hidden_layers}"
                )
            config.num_hidden_layers = num_layers
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise SourceError(f"encoder: {folder}: {_line(error)}") from None
    if dropout is not None:
        config.attention_probs_dropout_prob = 0.0
        config.hidden_dropout_prob = dropout
    return config


def _load(kind: Any, folder: Path, config: Any) -> nn.Module:
    from transformers import logging

    # Its report of the layers and heads that are left out on purpose is of no use here.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: nn.Module = kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            # On a CPU in bfloat16 the fused kernels are four times slower than plain products.
            attn_implementation="eager",
        )
    except Exception as error:
        raise SourceError(f"encoder: {folder}: cannot be loaded ({_line(error)})") from None
    finally:
        logging.set_verbosity(verbosity)
    return model.eval()


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def width(model: nn.Module) -> int:
    """Return the width of a token's state."""
    return int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]


def max_positions(folder: Path) -> int:
    """Return how many tokens a checkpoint's encoder can read at once."""
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = int(values.get("max_position_embeddings", 512))
    # RoBERTa counts positions from behind its padding token.
    return positions - 2 if values.get("model_type") in ("roberta", "xlm-roberta") else positions


def states(model: nn.Module, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return every token's last state: (B, T), (B,) -> (B, T, D)."""
    out: Tensor = model(input_ids=ids, attention_mask=_mask(ids, lengths)).last_hidden_state
    return out


def pooled_layers(model: nn.Module, ids: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """Return each text's pooled state after the embeddings and every layer: (B, L + 1, D)."""
    outputs = model(input_ids=ids, attention_mask=_mask(ids, lengths), output_hidden_states=True)
    layers: Sequence[Tensor] = outputs.hidden_states
    return torch.stack([pool(layer, lengths, how) for layer in layers], dim=1)


def pool(states: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """Make one state of a text's: its first token's, or the mean of all, (B, T, D) -> (B, D)."""
    if how == "cls":
        return states[:, 0]
    mask = valid_tokens(lengths, states.shape[1])[:, :, None]  # (B, T, 1)
    # Summed in float32: a mean over hundreds of bfloat16 numbers would lose its last digits.
    return (states.float() * mask).sum(dim=1) / lengths[:, None]


def _mask(ids: Tensor, lengths: Tensor) -> Tensor | None:
    """Return the attention mask, or None where nothing is padded and none is needed.

    Under autocasting it is what is added to the scores, (B, 1, 1, T), in the scores' own type:
    added in float32, as transformers would, it would drag them and the softmax there.
    """
    if bool((lengths == ids.shape[1]).all()):
        return None
    valid = valid_tokens(lengths, ids.shape[1])
    if not torch.is_autocast_enabled(ids.device.type):
        return valid.long()
    kind = torch.get_autocast_dtype(ids.device.type)
    added = torch.zeros(valid.shape, dtype=kind, device=ids.device)
    return added.masked_fill_(~valid, torch.finfo(kind).min)[:, None, None, :]
