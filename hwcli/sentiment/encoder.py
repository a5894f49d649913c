"""A pretrained transformer and its tokenizer, loaded from a folder and nothing else.

Weights come as safetensors only, and no code of a checkpoint's is ever run.
"""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hwcli.data.catalogue import TOKENIZER_FILES
from hwcli.errors import SourceError, first_line
from hwcli.sentiment.reviews import LABELS
from hwcli.sentiment.tokens import valid_tokens

Pooling = Literal["mean", "cls"]

# Embeddings may have some rows more than there are tokens, to be a multiple of something.
SMALLEST_VOCABULARY_SHARE = 0.9

# What configs call the dropout of hidden states, and of attention.
HIDDEN_DROPOUTS = (
    "hidden_dropout_prob",
    "hidden_dropout",
    "dropout",
    "embedding_dropout",
    "mlp_dropout",
    "pooler_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
)
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")

# Architectures that take the mask as it is added to the scores; the tests hold each of them to it.
TAKES_ADDED_MASK = frozenset(
    {"albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"}
)


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
    patterns = ["tokenizer*", "vocab*", "merges.txt", "*.model"]
    if not (folder / "tokenizer.json").is_file():  # which holds all that these do
        patterns += ["special_tokens_map.json", "added_tokens.json"]
    vocabulary = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    whole = hashlib.sha256()
    for path in [config, *weights, *vocabulary]:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


def load_tokenizer(folder: Path) -> Any:
    """Load a checkpoint's fast tokenizer, and make sure that it belongs to the weights.

    Raises:
        SourceError: there is none, it is damaged, it lacks a special token, or its vocabulary is
            not the one that the weights were trained with.
    """
    from transformers import AutoTokenizer

    config = load_config(folder)
    # Without a file transformers would invent an empty vocabulary: every word became unknown.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SourceError(f"encoder: {folder} has no tokenizer (tokenizer.json or vocab.txt)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        # Damaged files surface as whatever the parser in question happens to raise.
        raise SourceError(f"encoder: {folder}: no usable tokenizer ({first_line(error)})") from None
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad")}
    lacking = ", ".join(f"{name} token" for name, id_ in special.items() if id_ is None)
    if lacking or not tokenizer.is_fast:
        raise SourceError(
            f"encoder: {folder}: its tokenizer has no {lacking or 'fast version'}; a BERT-like "
            "checkpoint is needed"
        )
    known, rows = len(tokenizer), int(getattr(config, "vocab_size", 0))
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows or known < SMALLEST_VOCABULARY_SHARE * rows:
        raise SourceError(
            f"encoder: {folder}: tokenizer and weights do not belong together ({known:,} tokens, "
            f"{rows:,} rows of embeddings)"
        )
    return tokenizer


def attention_for(device: torch.device, precision: torch.dtype) -> str | None:
    """Return the attention of transformers that is fastest; None is its own choice.

    That is torch's fused kernel wherever an architecture has it. On a CPU in bfloat16 a
    training step takes 1.2 to 1.3 times as long with it as with plain products
    (tests/benchmarks/LOG.md). On Apple's GPU torch may read tensors wrongly before
    2.12 (pytorch #181133), and has no fused kernel for training anyway.
    """
    is_low_on_cpu = device.type == "cpu" and precision == torch.bfloat16
    return "eager" if is_low_on_cpu or device.type == "mps" else None


def load_encoder(
    folder: Path,
    *,
    num_layers: int | None = None,
    dropout: float | None = None,
    attention: str | None = None,
) -> nn.Module:
    """Load a checkpoint's encoder in float32, in eval mode.

    Args:
        folder: that holds it.
        num_layers: keep only the first so many.
        dropout: of hidden states while it is fine-tuned; attention then has none, which would
            cost a CPU more than it gives.
        attention: from :func:`attention_for`.

    Raises:
        SourceError: it is damaged, of a kind unknown to transformers, or has fewer layers.
    """
    from transformers import AutoModel

    config = load_config(folder)
    if num_layers is not None:
        _keep_layers(config, num_layers)
    return _load(AutoModel, folder, config, dropout, attention)


def load_classifier(
    folder: Path,
    *,
    dropout: float | None = None,
    attention: str | None = None,
    new_head: bool = False,
) -> nn.Module:
    """Load a checkpoint with transformers' own classification head, two classes by our names.

    Args:
        folder: that holds it.
        dropout: as in :func:`load_encoder`.
        attention: as in :func:`load_encoder`.
        new_head: the head is to be trained: one of another number of classes is replaced.

    Raises:
        SourceError: as in :func:`load_encoder`.
    """
    from transformers import AutoModelForSequenceClassification

    config = load_config(folder)
    config.id2label = dict(enumerate(LABELS))
    config.label2id = {name: index for index, name in enumerate(LABELS)}
    # A checkpoint of several labels may say otherwise: transformers' pipeline would then give the
    # logistic function of each logit.
    config.problem_type = "single_label_classification"
    model = _load(
        AutoModelForSequenceClassification, folder, config, dropout, attention, new_head=new_head
    )
    if not hasattr(model, "classifier"):
        raise SourceError(
            f"encoder: {folder}: {config.model_type} has no classifier of its own that could be "
            "trained; take --head mean"
        )
    return model


def load_config(folder: Path) -> Any:
    """Read a checkpoint's config.

    Raises:
        SourceError: files are missing, or the config is damaged or of a kind that is not read.
    """
    from transformers import AutoConfig

    checkpoint_digest(folder)  # says in one line what is missing
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _ = int(config.num_hidden_layers), int(config.hidden_size), int(config.vocab_size)
    except Exception as error:
        # Each kind of damage surfaces as another exception.
        raise SourceError(f"encoder: {folder}: config.json: {first_line(error)}") from None
    if config.is_encoder_decoder:
        raise SourceError(
            f"encoder: {folder}: {config.model_type} is an encoder with a decoder; a BERT-like "
            "checkpoint is needed"
        )
    return config


def _keep_layers(config: Any, num_layers: int) -> None:
    if not 1 <= num_layers <= config.num_hidden_layers:
        raise SourceError(
            f"num_encoder_layers = {num_layers}: the encoder has {config.num_hidden_layers}; "
            f"choices: 1..{config.num_hidden_layers}"
        )
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]


def _load(
    kind: Any,
    folder: Path,
    config: Any,
    dropout: float | None,
    attention: str | None,
    *,
    new_head: bool = False,
) -> nn.Module:
    from transformers import logging

    if dropout is not None:
        for name in HIDDEN_DROPOUTS:
            if getattr(config, name, None) is not None:
                setattr(config, name, dropout)
        for name in ATTENTION_DROPOUTS:
            if getattr(config, name, None) is not None:
                setattr(config, name, 0.0)
    # Its report of the layers and heads that are left out on purpose is of no use here.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, loading = kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation=attention,
            ignore_mismatched_sizes=new_head,
            output_loading_info=True,
        )
    except Exception as error:
        raise SourceError(f"encoder: {folder}: cannot be loaded ({first_line(error)})") from None
    finally:
        logging.set_verbosity(verbosity)
    _refuse_partial_weights(model, loading, folder)
    if dropout is not None:
        _set_dropout(model, dropout)
    network: nn.Module = model.eval()
    return network


def _refuse_partial_weights(model: Any, loading: Mapping[str, Any], folder: Path) -> None:
    """Refuse an encoder of which a part would be random: the weights are another model's.

    A pooler and a classification head are not part of the encoder proper.
    """
    prefix = f"{model.base_model_prefix}." if model.base_model is not model else ""
    mismatched = [entry[0] for entry in loading["mismatched_keys"]]
    lacking = [
        name
        for name in [*loading["missing_keys"], *mismatched]
        if name.startswith(prefix) and "pooler" not in name
    ]
    if lacking:
        raise SourceError(
            f"encoder: {folder}: the weights lack {len(lacking)} tensors of the encoder, such as "
            f"{min(lacking)}; config.json and weights do not belong together"
        )


def _set_dropout(model: nn.Module, dropout: float) -> None:
    """Set what the config's names did not reach, and make sure that something was reached."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for layer in layers:
        if layer.p not in (0.0, dropout):
            layer.p = dropout
    if dropout and not any(layer.p == dropout for layer in layers):
        kind = model.config.model_type  # type: ignore[union-attr]
        raise SourceError(
            f"encoder_dropout = {dropout}: {kind} has no dropout that could be set; use 0"
        )


def width(model: nn.Module) -> int:
    """Return the width of a token's state."""
    return int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]


def max_positions(folder: Path) -> int:
    """Return how many tokens a checkpoint's encoder can read at once.

    The embeddings themselves say it, made on the meta device without weights: RoBERTa and its
    kind count positions from behind their padding token, others have none.
    """
    from transformers import AutoModel

    config = load_config(folder)
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        for name, module in model.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                before = -1 if module.padding_idx is None else module.padding_idx
                return module.num_embeddings - before - 1
        return int(config.max_position_embeddings)
    except Exception as error:
        # A config that no model can be made of surfaces as whatever its code stumbles on.
        raise SourceError(f"encoder: {folder}: config.json: {first_line(error)}") from None


def with_weights_in(model: nn.Module, precision: torch.dtype) -> nn.Module:
    """Return a copy with rounded weights; buffers stay: rotary frequencies need float32."""
    lowered = copy.deepcopy(model)
    for parameter in lowered.parameters():
        parameter.data = parameter.data.to(precision)
    return lowered


# --------------------------------------------------------------------------------------
# States


def states(model: nn.Module, ids: Tensor, lengths: Tensor) -> Tensor:
    """Return every token's last state: (B, T), (B,) -> (B, T, D)."""
    out: Tensor = model(input_ids=ids, attention_mask=_mask(model, ids, lengths)).last_hidden_state
    return out


def pooled_layers(model: nn.Module, ids: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """Return each text's pooled state after the embeddings and every layer: (B, L + 1, D)."""
    outputs = model(
        input_ids=ids, attention_mask=_mask(model, ids, lengths), output_hidden_states=True
    )
    layers: Sequence[Tensor] = outputs.hidden_states
    return torch.stack([pool(layer, lengths, how) for layer in layers], dim=1)


def pool(states: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """Make one state of a text's: its first token's, or the mean of all, (B, T, D) -> (B, D)."""
    if how == "cls":
        return states[:, 0]
    mask = valid_tokens(lengths, states.shape[1])[:, :, None]  # (B, T, 1)
    # Summed in float32: a mean over hundreds of bfloat16 numbers would lose its last digits.
    return (states.float() * mask).sum(dim=1) / lengths[:, None]


def _mask(model: nn.Module, ids: Tensor, lengths: Tensor) -> Tensor | None:
    """Return the attention mask, or None where nothing is padded and none is needed.

    Under autocasting it is what is added to the scores, (B, 1, 1, T), in the scores' own type:
    added in float32, as transformers would, it would drag them and the softmax there. Only
    architectures that take it as it is get that one: others read it as 0 and 1, or lose the
    windows of their local attention by it.
    """
    if bool((lengths == ids.shape[1]).all()):
        return None
    valid = valid_tokens(lengths, ids.shape[1])
    kind = model.config.model_type  # type: ignore[union-attr]
    if kind not in TAKES_ADDED_MASK or not torch.is_autocast_enabled(ids.device.type):
        return valid.long()
    dtype = torch.get_autocast_dtype(ids.device.type)
    added = torch.zeros(valid.shape, dtype=dtype, device=ids.device)
    return added.masked_fill_(~valid, torch.finfo(dtype).min)[:, None, None, :]
