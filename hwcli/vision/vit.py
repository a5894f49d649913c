"""The Vision Transformer (Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words").

Pre-norm blocks on flattened patches with learned position embeddings, as in the paper's
equations 1-4, except that residual projections start at zero: depth costs nothing at first.

Shapes: B images, C channels, P patch side, T tokens, D width, H heads, d width of one head.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hwcli.attention.functional import packed_linear_attention, packed_softmax_attention
from hwcli.config import Section
from hwcli.native import encoder_layer as native_layer

MAX_PARAMS = 10**9  # 4 GB of weights, and as much again for each of gradients and moments


class ViTConfig(Section):
    """Everything of the model but its layers and heads, which are the grid's."""

    patch_size: int = Field(4, ge=1, description="Side of a square patch in pixels; divides 28.")
    width: int = Field(
        64, ge=1, le=2**16, description="Width of a token: numbers per patch in every layer."
    )
    mlp_width: int = Field(
        128, ge=1, le=2**18, description="Hidden width of the MLP in every layer."
    )
    head_width: int | None = Field(
        None, ge=1, le=2**16, description="Width of one attention head; null: width / heads."
    )
    pooling: Literal["mean", "class"] = Field(
        "mean",
        description="What the classifier reads: mean of all tokens, or an extra class token.",
    )
    attention: Literal["softmax", "linear"] = Field(
        "softmax", description="Kind of self-attention: softmax or linear."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability inside every layer.")

    def head_width_for(self, heads: int) -> int:
        """Return the width of one head: given, or the width's equal share.

        Raises:
            ValueError: the width does not divide, and dimensions would be lost.
        """
        if self.head_width is not None:
            return self.head_width
        if self.width % heads:
            raise ValueError(
                f"model.width = {self.width} does not divide by heads = {heads}; "
                f"take a width that does (such as {-(-self.width // 12) * 12}), "
                "or set model.head_width"
            )
        return self.width // heads


def start_at_zero(layer: nn.Linear) -> None:
    """Make a residual projection add nothing at first: its block starts as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017), softmax or linear."""

    def __init__(self, *, width: int, heads: int, head_width: int, kind: str):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.attend = packed_linear_attention if kind == "linear" else packed_softmax_attention
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width)
        start_at_zero(self.to_out)

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values of all heads: (B, T, D) -> (B, T, 3, H, d)."""
        B, T, _ = x.shape
        return self.to_qkv(x).view(B, T, 3, self.heads, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens: (B, T, D) -> (B, T, D)."""
        y = self.attend(self.project(x))  # (B, T, H, d)
        return self.to_out(y.flatten(2))


class MLP(nn.Module):
    """Two layers with a GELU between, applied to each token alone."""

    def __init__(self, *, width: int, hidden: int):
        super().__init__()
        self.to_hidden = nn.Linear(width, hidden)
        self.to_out = nn.Linear(hidden, width)
        start_at_zero(self.to_out)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens: (B, T, D) -> (B, T, D)."""
        return self.to_out(F.gelu(self.to_hidden(x)))


class Block(nn.Module):
    """One encoder layer (equations 2 and 3).

    Where compiled kernels are in use and there is one for the layer, it computes the whole layer,
    and the forward methods of the submodules do not run. The kernel is not for a layer with a hook
    on a submodule, or with a submodule of another class, parametrized ones included. Hooks on the
    block itself always run; hooks registered for all modules do not run inside the kernel.
    """

    def __init__(self, attention: Attention, mlp: MLP, *, width: int, dropout: float):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2, self.mlp = nn.LayerNorm(width), mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the tokens learn from each other, then what each makes of it."""
        if (encoded := _in_one_kernel(self, x)) is not None:
            return encoded
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """A Vision Transformer classifier.

    Args:
        layers: number of blocks.
        heads: attention heads of each.
        config: widths, pooling, attention kind, dropout.
        image_size: side of the square images in pixels, a multiple of the patch side.
        channels: C.
        num_classes: of the classifier.

    Raises:
        ValueError: there is nothing to count, patches do not divide the image, or the width does
            not divide by the heads; names the value and the choices.
    """

    def __init__(
        self,
        *,
        layers: int,
        heads: int,
        config: ViTConfig,
        image_size: int = 28,
        channels: int = 1,
        num_classes: int = 10,
    ):
        super().__init__()
        counts = {"layers": layers, "heads": heads, "channels": channels, "classes": num_classes}
        for name, number in counts.items():
            if number < 1:
                raise ValueError(f"{name} = {number}: expected 1 or more")
        D, P = config.width, config.patch_size
        check_patch_size(P, image_size)
        self.image_shape = (channels, image_size, image_size)
        self.patch_size, self.pooling = P, config.pooling
        self.embed = nn.Linear(channels * P * P, D)
        self.class_token = nn.Parameter(torch.zeros(1, 1, D)) if self.pooling == "class" else None
        self.positions = nn.Parameter(0.02 * torch.randn(1, num_tokens(config, image_size), D))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.Sequential(
            *(
                Block(
                    Attention(
                        width=D,
                        heads=heads,
                        head_width=config.head_width_for(heads),
                        kind=config.attention,
                    ),
                    MLP(width=D, hidden=config.mlp_width),
                    width=D,
                    dropout=config.dropout,
                )
                for _ in range(layers)
            )
        )
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, num_classes)

    def tokens(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return what enters the first block: (B, C, image_size, image_size) -> (B, T, D).

        With ``kept``, (B, T') int64, only the patches of these numbers; T is then T', and one more
        with a class token.

        Raises:
            ValueError: the images are of another size or number of channels.
        """
        if images.ndim != 4 or images.shape[1:] != self.image_shape:
            channels, side, _ = self.image_shape
            raise ValueError(
                f"images are {tuple(images.shape)}: expected (B, {channels}, {side}, {side})"
            )
        patches, positions = to_patches(images, self.patch_size), self.positions
        own = positions[:, :1] if self.class_token is not None else None
        places = positions if own is None else positions[:, 1:]
        if kept is not None:
            patches = patches.gather(1, kept[:, :, None].expand(-1, -1, patches.shape[2]))
            places = places[0][kept]
        x = self.embed(patches) + places
        if self.class_token is not None and own is not None:
            x = torch.cat([(self.class_token + own).expand(len(x), -1, -1), x], dim=1)
        return self.dropout(x)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Classify images, (B, C, image_size, image_size), or some of their patches, ``kept``.

        Returns:
            logits, (B, num_classes).

        Raises:
            ValueError: the images are of another size or number of channels.
        """
        x = self.blocks(self.tokens(images, kept))  # (B, T, D)
        x = x[:, 0] if self.pooling == "class" else x.mean(dim=1)  # (B, D)
        return self.head(self.norm(x))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return the weight matrices of the blocks: what Muon is for."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]


def _in_one_kernel(block: Block, x: Tensor) -> Tensor | None:
    """Compute a whole layer by the compiled kernel; None where there is none for it."""
    if not native_layer.fits_tokens(x) or (parameters := _kernel_parameters(block)) is None:
        return None
    heads, linear = block.attention.heads, block.attention.kind == "linear"
    if not native_layer.fits(x.shape[2], parameters, heads=heads):
        return None
    return native_layer.encode(x, parameters, heads=heads, linear=linear, epsilon=block.norm1.eps)


def _kernel_parameters(block: Block) -> native_layer.LayerParameters | None:
    """Return what the kernel needs; None if the submodules do anything else than it does."""
    # This runs for every layer of every step, and attributes of modules are slow.
    names = "norm1", "attention", "norm2", "mlp", "dropout"
    parts: list[Any] = [block._modules.get(name) for name in names]
    if [*map(type, parts)] != [nn.LayerNorm, Attention, nn.LayerNorm, MLP, nn.Dropout]:
        return None
    norm1, attention, norm2, mlp, dropout = parts
    maps: list[Any] = [
        *map(attention._modules.get, ("to_qkv", "to_out")),
        *map(mlp._modules.get, ("to_hidden", "to_out")),
    ]
    if [*map(type, maps)] != [nn.Linear] * 4:
        return None
    for part in (*parts, *maps):
        if (
            part._forward_pre_hooks
            or part._forward_hooks
            or part._backward_pre_hooks
            or part._backward_hooks
        ):
            return None
    qkv, out, hidden, mlp_out = (part._parameters for part in maps)
    if norm1.eps != norm2.eps or (dropout.p and dropout.training) or qkv.get("bias") is not None:
        return None
    return native_layer.LayerParameters(
        norm1=norm1._parameters.get("weight"),
        norm1_bias=norm1._parameters.get("bias"),
        qkv=qkv.get("weight"),
        out=out.get("weight"),
        out_bias=out.get("bias"),
        norm2=norm2._parameters.get("weight"),
        norm2_bias=norm2._parameters.get("bias"),
        hidden=hidden.get("weight"),
        hidden_bias=hidden.get("bias"),
        mlp_out=mlp_out.get("weight"),
        mlp_out_bias=mlp_out.get("bias"),
    )


def to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into flattened patches, row by row: (B, C, h, w) -> (B, T, C P P).

    P divides h and w.
    """
    B, C, height, width = images.shape
    P = patch_size
    x = images.view(B, C, height // P, P, width // P, P)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * P * P)


def num_params(layers: int, heads: int, config: ViTConfig, image_size: int = 28) -> int:
    """Count the parameters of a network for grey images of ten classes without building it."""
    D, M, h = config.width, config.mlp_width, heads * config.head_width_for(heads)
    P, T = config.patch_size, num_tokens(config, image_size)
    has_class_token = config.pooling == "class"
    norm = 2 * D
    block = 2 * norm + (3 * D * h) + (h * D + D) + (D * M + M) + (M * D + D)
    return (P * P * D + D) + (T + has_class_token) * D + layers * block + norm + (10 * D + 10)


def check_patch_size(patch_size: int, image_size: int = 28) -> None:
    """Make sure that patches divide an image.

    Raises:
        ValueError: they do not; names the choices.
    """
    if patch_size < 1 or image_size < 1 or image_size % patch_size:
        sides = [side for side in range(1, image_size + 1) if image_size % side == 0]
        raise ValueError(
            f"model.patch_size = {patch_size} does not divide images of "
            f"{image_size} x {image_size}; choices: {', '.join(map(str, sides))}"
        )


def num_patches(patch_size: int, image_size: int = 28) -> int:
    """Count the patches of an image."""
    return (image_size // patch_size) ** 2


def num_tokens(config: ViTConfig, image_size: int = 28, patches: int | None = None) -> int:
    """Count the tokens of an image, or of some patches of it: with the class token."""
    patches = num_patches(config.patch_size, image_size) if patches is None else patches
    return patches + (config.pooling == "class")


def training_flops(
    *, layers: int, heads: int, config: ViTConfig, patches: int | None = None
) -> int:
    """Count the floating-point operations of training on one image once, or on some patches of it.

    A multiply and an add are two; the backward pass costs twice the forward pass; what is linear
    in the activations (norms, GELU, softmax) is left out, as is usual.
    """
    D, d = config.width, config.head_width_for(heads)
    T = num_tokens(config, patches=patches)
    projections = 4 * D * heads * d + 2 * D * config.mlp_width
    attention = 2 * heads * d * (d if config.attention == "linear" else T)
    embedding = config.patch_size**2 * D
    return 3 * 2 * T * (layers * (projections + attention) + embedding)
