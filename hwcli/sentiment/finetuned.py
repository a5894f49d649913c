"""An encoder that is trained together with its head, and runs in every step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwcli.output import terminal
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.classifier import (
    assemble,
    count_parameters,
    make_head,
    predict_logits,
    reader_of,
)
from hwcli.sentiment.prepare import PartName, SentimentData
from hwcli.sentiment.progress import ProgressPrinter
from hwcli.sentiment.recipe import Recipe
from hwcli.sentiment.self_test import self_test
from hwcli.sentiment.tokens import ReviewNumbers, Tokens
from hwcli.training.optimizers import make_optimizers

# In a training's folder: the logits of the test reviews, until the run is finished.
TEST_LOGITS = "test.safetensors"

# Tokens whose activations are in memory at once: they decide the peak. Matrix products of more
# rows are no faster.
TOKENS_AT_ONCE = 2048
TOKENS_AT_ONCE_ON_GPU = 65_536
# On Apple's GPU the gradients of more than 32,768 may be wrong (pytorch #177116): half as many.
TOKENS_AT_ONCE_ON_MPS = 16_384
# A parameter's gradient and Adam's two averages, in float32: they come after the first step.
BYTES_PER_PARAMETER_LATER = 12
# Of what a GPU has free, what activations may take. The rest is for the libraries' buffers and for
# gaps between tensors.
SHARE_FOR_ACTIVATIONS = 0.8


def tokens_at_once(device: torch.device, token_bytes: int = 0, later_bytes: int = 0) -> int:
    """Return how many tokens a device differentiates at once.

    Args:
        device: where the model is trained.
        token_bytes: what a token's activations take; 0: the memory of a GPU is no limit.
        later_bytes: what a GPU must keep free for everything else.
    """
    if device.type == "cpu":
        return TOKENS_AT_ONCE
    if device.type == "mps":
        return TOKENS_AT_ONCE_ON_MPS
    number = TOKENS_AT_ONCE_ON_GPU
    if token_bytes:
        room = SHARE_FOR_ACTIVATIONS * (_free_gpu_bytes(device) - later_bytes)
        # Halved: where a little more or less is free, a batch is cut into the same parts.
        while number > 1 and number * token_bytes > room:
            number //= 2
    return number


def _free_gpu_bytes(device: torch.device) -> int:
    free, _ = torch.cuda.mem_get_info(device)
    # What torch has taken from the device and does not use now.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def layer_bytes_per_token(config: Any, longest: int, precision: torch.dtype) -> int:
    """Bound what a layer keeps of a token for its backward pass, in bytes.

    About 16 states, 3 of the wide layer, and 3 scores for each token of its text and each head.

    Args:
        config: of the encoder.
        longest: tokens of the longest text.
        precision: the type that matrix products run in.
    """
    width = int(config.hidden_size)
    heads = int(getattr(config, "num_attention_heads", 12))
    wide = int(getattr(config, "intermediate_size", 4 * width))
    size = 4 if precision == torch.float32 else 2
    return (16 * width + 3 * wide + 3 * heads * longest) * size


def tokens_at_once_of(encoder: nn.Module, num_params: int, data: SentimentData) -> int:
    """Return how many tokens of the training reviews are differentiated at once.

    Args:
        encoder: that is trained, on its device.
        num_params: of all that is trained.
        data: the reviews, the device and the precision.
    """
    config: Any = encoder.config
    longest = int(data.train.lengths.max())
    per_layer = layer_bytes_per_token(config, longest, data.precision)
    return tokens_at_once(
        data.device,
        int(config.num_hidden_layers) * per_layer,
        BYTES_PER_PARAMETER_LATER * num_params,
    )


def load_encoder_and_head(
    recipe: Recipe, data: SentimentData
) -> tuple[nn.Module, nn.Module | None]:
    """Return the encoder to be trained and its head; None where it has transformers' own head.

    Raises:
        SourceError: the encoder cannot be used.
    """
    attention = encoders.attention_for(data.device, data.precision)
    dropout = recipe.encoder_dropout
    if recipe.is_plain:
        encoder = encoders.load_classifier(
            data.encoder_folder, dropout=dropout, attention=attention, new_head=True
        )
        return encoder, None
    encoder = encoders.load_encoder(
        data.encoder_folder,
        num_layers=recipe.num_encoder_layers,
        dropout=dropout,
        attention=attention,
    )
    return encoder, make_head(recipe.head, encoder, finetuned=True)


class FinetunedEncoder:
    """An encoder that is trained together with its head."""

    encode_s: float = 0.0
    model: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]

    def __init__(self, recipe: Recipe, data: SentimentData, folder: Path):
        self._data, self._folder = data, folder
        torch.manual_seed(recipe.seed)
        encoder, head = load_encoder_and_head(recipe, data)
        own = [encoder.get_submodule("classifier") if head is None else head]
        self.model = assemble(encoder, head, recipe.head, finetuned=True).to(data.device)
        self_test(
            reader_of(self.model.eval()),
            encoder,
            data.tokenizer,
            name=data.encoder_name,
            precision=data.precision,
            max_length=recipe.text.max_length,
        )
        self.num_params = count_parameters(self.model)
        self._tokens_at_once = tokens_at_once_of(encoder, self.num_params, data)
        terminal.log(f"{self.num_params:,} parameters, all of them trainable")
        self.optimizers = [
            *make_optimizers(_ParametersExcept(self.model, own), recipe.encoder_optimizer),
            *make_optimizers(nn.ModuleList(own), recipe.optimizer),
        ]
        self.warmup_fraction = recipe.encoder_optimizer.warmup_fraction
        self.step_precision = data.precision

    def parts_of(self, numbers: ReviewNumbers) -> list[slice]:
        """Cut a batch into parts whose activations fit into memory."""
        size = max(1, self._tokens_at_once // self._data.train.padded_length(numbers))
        return [slice(start, start + size) for start in range(0, len(numbers), size)]

    def logits(self, numbers: ReviewNumbers) -> Tensor:
        """Run encoder and head on training reviews: (B,)."""
        ids, lengths = self._data.train.pad(numbers)
        logits: Tensor = self.model(ids.to(self._data.device), lengths.to(self._data.device))
        return logits.float()

    def predict(self, part: PartName) -> Tensor:
        """Run encoder and head on a whole part: (N,)."""
        tokens: Tokens = getattr(self._data, part)
        # The longest pass of all: a run that was stopped goes on with it, and never repeats it.
        long = part == "test"
        return predict_logits(
            self.model,
            tokens,
            device=self._data.device,
            precision=self._data.precision,
            resume_file=self._folder / TEST_LOGITS if long else None,
            on_progress=ProgressPrinter("reading the test reviews") if long else None,
        )

    def classifier(self) -> nn.Module:
        """Return encoder and head together."""
        return self.model


class _ParametersExcept(nn.Module):
    """A model's parameters without those of some modules, as a module of its own."""

    def __init__(self, model: nn.Module, left_out: Sequence[nn.Module]):
        super().__init__()
        ids = {id(p) for module in left_out for p in module.parameters()}
        self.kept = nn.ParameterList(p for p in model.parameters() if id(p) not in ids)
