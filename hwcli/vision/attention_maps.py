"""What a trained ViT looks at, and what it knows of places, from its weights.

Shapes: B images, L layers, H heads, T tokens, D width, d width of one head.
"""

import torch
from torch import Tensor

from hwcli.attention.functional import linear_attention, softmax_attention, unpack_qkv
from hwcli.vision.vit import Block, ViT


@torch.no_grad()
def attention_maps(model: ViT, images: Tensor) -> Tensor:
    """Return the weights with which every token attends to every other: (L, B, H, T, T).

    Attention of any kind is linear in what is attended to: given the identity for values, it
    returns its weights. Rows sum to one.

    Args:
        model: in eval mode.
        images: (B, C, h, w), normalised.
    """
    x = model.tokens(images)
    maps = []
    for block in model.blocks:
        assert isinstance(block, Block)
        q, k, _ = unpack_qkv(block.attention.project(block.norm1(x)))  # (B, H, T, d)
        one_hot = torch.eye(x.shape[1], dtype=q.dtype, device=x.device)
        one_hot = one_hot.expand(*q.shape[:2], -1, -1)  # (B, H, T, T)
        linear = block.attention.kind == "linear"
        maps.append((linear_attention if linear else softmax_attention)(q, k, one_hot))
        x = block(x)
    return torch.stack(maps)


def rollout(maps: Tensor) -> Tensor:
    """Follow attention from the last layer down to the patches: (L, B, H, T, T) -> (B, T, T).

    Row i says how much of each first token reaches token i at the end. Heads are averaged, and
    the residual connection passes on half of a token as it is (Abnar and Zuidema 2020,
    "Quantifying Attention Flow in Transformers", eq. 1: A_l' = (A_l + 1) / 2, multiplied up).
    Rows sum to one. What the MLPs do, and how long the vectors are, it leaves out.
    """
    _, B, _, T, _ = maps.shape
    reached = torch.eye(T, dtype=maps.dtype, device=maps.device).expand(B, T, T)
    for layer in maps.mean(dim=2):  # (B, T, T)
        reached = (layer @ reached + reached) / 2
    return reached


def patch_attention(rolled_out: Tensor, pooling: str) -> Tensor:
    """Return the share of each patch in what is classified: (B, T, T) -> (B, side, side).

    The classifier reads the class token, or the mean of all tokens, as the model pools. The
    class token's own share is left out.
    """
    shares = rolled_out[:, 0, 1:] if pooling == "class" else rolled_out.mean(dim=1)
    side = round(shares.shape[-1] ** 0.5)
    return shares.reshape(-1, side, side)


@torch.no_grad()
def position_similarity(model: ViT) -> Tensor:
    """Return cosine similarities of position embeddings: (side, side, side, side).

    Entry (r, c) is a picture: the similarity of the place in row r and column c to every place
    (Dosovitskiy et al. 2021, fig. 7, centre). The class token has no place.
    """
    positions = model.positions[0, 1:] if model.pooling == "class" else model.positions[0]
    unit = torch.nn.functional.normalize(positions, dim=-1)  # (T, D)
    side = round(len(unit) ** 0.5)
    return (unit @ unit.T).reshape(side, side, side, side)
