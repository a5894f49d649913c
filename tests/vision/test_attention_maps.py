import pytest
import torch

from hwcli.attention.functional import unpack_qkv
from hwcli.vision.attention_maps import (
    attention_maps,
    patch_attention,
    position_similarity,
    rollout,
)
from hwcli.vision.vit import ViT, ViTConfig


def make(pooling: str = "mean", attention: str = "softmax") -> ViT:
    """Three layers and two heads on 5 x 5 patches, no weight zero."""
    torch.manual_seed(0)
    config = ViTConfig(width=22, mlp_width=17, head_width=11, pooling=pooling, attention=attention)  # type: ignore[arg-type]
    model = ViT(layers=3, heads=2, config=config, image_size=20, channels=2, num_classes=7)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("pooling", ["mean", "class"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
def test_maps_are_the_weights_the_model_attends_with(pooling: str, attention: str) -> None:
    model = make(pooling, attention)
    images = torch.randn(3, 2, 20, 20)
    maps = attention_maps(model, images)
    T = 25 + (pooling == "class")
    assert maps.shape == (3, 3, 2, T, T)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(3, 3, 2, T))
    assert (maps >= 0).all()

    first = model.blocks[0]
    x = first.norm1(model.tokens(images))
    _, _, v = unpack_qkv(first.attention.project(x))
    y = first.attention.to_out((maps[0] @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(y, first.attention(x), atol=1e-4, rtol=1e-4)


def test_rollout_by_hand() -> None:
    # Two tokens, two layers. Layer 1: both look at token 0; layer 2: each at the other.
    maps = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]]).view(2, 1, 1, 2, 2)
    # Half stays: layer 1 is [[1, 0], [.5, .5]], layer 2 is [[.5, .5], [.5, .5]] times that.
    assert rollout(maps)[0].tolist() == [[0.75, 0.25], [0.75, 0.25]]


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_what_rolls_out_is_whole(pooling: str) -> None:
    rolled_out = rollout(attention_maps(make(pooling), torch.randn(3, 2, 20, 20)))
    torch.testing.assert_close(rolled_out.sum(dim=-1), torch.ones(rolled_out.shape[:2]))
    shares = patch_attention(rolled_out, pooling)
    assert shares.shape == (3, 5, 5)
    if pooling == "mean":
        torch.testing.assert_close(shares.sum(dim=(1, 2)), torch.ones(3))
    else:
        torch.testing.assert_close(shares[1, 2, 3], rolled_out[1, 0, 1 + 2 * 5 + 3])


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_a_place_is_most_similar_to_itself(pooling: str) -> None:
    model = make(pooling)
    similar = position_similarity(model)
    assert similar.shape == (5, 5, 5, 5)
    first = pooling == "class"
    a, b = model.positions[0, first + 7], model.positions[0, first + 19]  # (1, 2) and (3, 4)
    expected = (a @ b / (a.norm() * b.norm())).item()
    assert similar[1, 2, 3, 4].item() == pytest.approx(expected, abs=1e-5)
    assert similar[4, 0, 4, 0].item() == pytest.approx(1)
