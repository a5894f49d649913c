"""What decides the numbers of a run: the part of its config that names a training."""

from typing import Literal

from pydantic import Field, model_validator

from hwcli.config import Section, default_config_path, read_file
from hwcli.sentiment.heads import HeadConfig
from hwcli.sentiment.split import SplitConfig
from hwcli.sentiment.tokens import TextConfig
from hwcli.training.optimizers import OptimizerConfig

# Raised whenever the same config would give other numbers: an unfinished training of another
# version is not resumed.
RECIPE_VERSION = 3


def shipped_texts() -> set[str]:
    """Return the sentences that presets come with: nobody's own."""
    shipped = read_file(default_config_path("sentiment-train"))
    return {
        text
        for values in (shipped.values, *shipped.presets.values())
        for text in values.get("texts", ())
    }


class Recipe(Section):
    """Everything that decides the numbers of a run."""

    seed: int = Field(ge=0, lt=2**32, description="Seed of weights, dropout and batches.")
    epochs: int = Field(ge=1, le=10_000, description="Passes over the training reviews.")
    batch_size: int = Field(ge=1, description="Reviews per training step.")
    keep: Literal["best", "last"] = Field(
        description="Epoch to keep: best (lowest validation loss) or last."
    )
    finetune: bool = Field(description="Train the encoder too, not only the head.")
    num_encoder_layers: int | None = Field(
        ge=1, description="Keep only the first N layers of the encoder; null keeps all."
    )
    encoder_dropout: float = Field(
        ge=0, lt=1, description="Dropout of hidden states inside a fine-tuned encoder."
    )
    text: TextConfig = Field(description="What is read of each review.")
    head: HeadConfig = Field(description="The classifier on top of the encoder.")
    optimizer: OptimizerConfig = Field(description="Optimizer of the head; adamw only.")
    encoder_optimizer: OptimizerConfig = Field(
        description="Optimizer of a fine-tuned encoder; adamw only."
    )
    split: SplitConfig = Field(
        description="How reviews are split into training, validation and test."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.head.all_layers and (self.finetune or self.head.kind == "gru"):
            raise ValueError(
                "head.all_layers = True: only a pooled head (head.kind = mean or cls) on a frozen "
                "encoder sees all layers"
            )
        if self.is_plain and self.num_encoder_layers is not None:
            raise ValueError(
                f"num_encoder_layers = {self.num_encoder_layers}: a fine-tuned cls head keeps "
                "every layer, so that transformers' own classes can load it"
            )
        for name in ("optimizer", "encoder_optimizer"):
            if getattr(self, name).kind != "adamw":
                raise ValueError(f"{name}.kind = 'muon': only adamw trains here")
        return self

    @property
    def is_solved(self) -> bool:
        """Whether the head is fitted by logistic regression, without epochs or steps."""
        return not self.finetune and self.head.kind != "gru"

    @property
    def is_plain(self) -> bool:
        """Whether transformers' own classification head is what is trained."""
        return self.head.is_plain(finetuned=self.finetune)


class Identity(Recipe):
    """What a half-trained model belongs to, everything resolved."""

    device: str
    precision: str
