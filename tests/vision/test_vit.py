import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hwcli.vision.vit import ViT, ViTConfig, num_params, num_tokens, to_patches, training_flops


def make(heads: int = 3, **more: object) -> ViT:
    torch.manual_seed(0)
    config = ViTConfig(**{"width": 33, "mlp_width": 17, **more})  # type: ignore[arg-type]
    return ViT(layers=2, heads=heads, config=config, image_size=20, channels=2, num_classes=7)


def test_patches_are_cut_row_by_row() -> None:
    images = torch.arange(2 * 1 * 4 * 6).view(2, 1, 4, 6).float()
    patches = to_patches(images, 2)
    assert patches.shape == (2, 6, 4)
    assert patches[0, 0].tolist() == [0, 1, 6, 7]
    assert patches[0, 1].tolist() == [2, 3, 8, 9]
    assert patches[0, 3].tolist() == [12, 13, 18, 19]


def test_embedding_patches_is_the_papers_convolution() -> None:
    model = make()
    images = torch.randn(5, 2, 20, 20)
    kernel = model.embed.weight.view(33, 2, 4, 4)
    convolved = F.conv2d(images, kernel, model.embed.bias, stride=4).flatten(2).mT
    torch.testing.assert_close(model.embed(to_patches(images, 4)), convolved)


@pytest.mark.parametrize("pooling", ["mean", "class"])
@pytest.mark.parametrize("attention", ["softmax", "linear"])
@pytest.mark.parametrize("head_width", [None, 13])
def test_every_kind_of_model_classifies_and_learns(
    pooling: str, attention: str, head_width: int | None
) -> None:
    model = make(pooling=pooling, attention=attention, head_width=head_width, dropout=0.1)
    logits = model(torch.randn(5, 2, 20, 20))
    assert logits.shape == (5, 7)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_blocks_start_as_the_identity() -> None:
    model = make()
    x = torch.randn(5, 25, 33)
    assert torch.equal(model.blocks(x), x)


def test_mean_pooling_without_positions_ignores_the_order_of_patches() -> None:
    model = make()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(model.positions)
    images = torch.randn(3, 2, 20, 20)
    moved = torch.cat([images[..., 8:], images[..., :8]], dim=-1)  # by whole patches
    torch.testing.assert_close(model(images), model(moved), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_some_patches_of_an_image_are_the_tokens_that_they_are_among_all(pooling: str) -> None:
    config = ViTConfig(width=12, head_width=3, pooling=pooling)  # type: ignore[arg-type]
    model, images = ViT(layers=1, heads=2, config=config), torch.randn(2, 1, 28, 28)
    kept = torch.tensor([[3, 17, 48], [0, 1, 2]])
    whole, some = model.tokens(images), model.tokens(images, kept)
    shift = int(pooling == "class")
    for image in range(2):
        torch.testing.assert_close(some[image, shift:], whole[image, shift + kept[image]])
    if shift:
        torch.testing.assert_close(some[:, 0], whole[:, 0])
    everything = torch.arange(49).expand(2, -1)
    torch.testing.assert_close(model(images, everything), model(images))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"patch_size": 3},
            "patch_size = 3 does not divide images of 20 x 20; choices: 1, 2, 4, 5, 10, 20",
        ),
        ({"patch_size": 40}, "patch_size = 40 does not divide images of 20 x 20"),
        ({"heads": 0, "head_width": 8}, "heads = 0: expected 1 or more"),
        ({"heads": -1}, "heads = -1: expected 1 or more"),
        ({"layers": 0}, "layers = 0: expected 1 or more"),
        ({"channels": 0}, "channels = 0: expected 1 or more"),
        ({"num_classes": 0}, "classes = 0: expected 1 or more"),
        ({"image_size": 0}, "does not divide images of 0 x 0"),
        ({"heads": 4}, "model.width = 33 does not divide by heads = 4"),
    ],
)
def test_a_network_that_cannot_be_is_refused_when_it_is_made(
    more: dict[str, Any], said: str
) -> None:
    sizes = {"layers": 2, "heads": 3, "image_size": 20, "channels": 2}
    of_network = {name: more.pop(name, size) for name, size in {**sizes, "num_classes": 7}.items()}
    config = ViTConfig(**{"width": 33, "mlp_width": 17, **more})
    with pytest.raises(ValueError, match=re.escape(said)):
        ViT(config=config, **of_network)


@pytest.mark.parametrize(
    "shape", [(5, 2, 24, 24), (5, 2, 16, 25), (5, 1, 20, 20), (2, 20, 20), (5, 2, 20, 24)]
)
def test_images_of_another_size_are_refused_with_both(shape: tuple[int, ...]) -> None:
    said = rf"images are {shape}: expected (B, 2, 20, 20)"
    with pytest.raises(ValueError, match=re.escape(said)):
        make()(torch.zeros(shape))


@pytest.mark.parametrize(("pooling", "tokens"), [("mean", 49), ("class", 50)])
def test_tokens_are_counted_as_the_network_has_them(pooling: str, tokens: int) -> None:
    config = ViTConfig(width=8, mlp_width=4, pooling=pooling)  # type: ignore[arg-type]
    assert num_tokens(config) == tokens
    assert num_tokens(config, patches=24) == tokens - 25
    model = ViT(layers=1, heads=2, config=config)
    assert model.tokens(torch.zeros(3, 1, 28, 28)).shape == (3, tokens, 8)
    assert num_params(1, 2, config) == sum(p.numel() for p in model.parameters())


def test_heads_attend_apart() -> None:
    """One head of a two-head layer, worked by hand."""
    layer = make(heads=3).blocks[0].attention
    x = torch.randn(1, 5, 33)
    qkv = layer.to_qkv(x)[0]  # (T, 3 H d)
    q, k, v = (qkv[:, 33 * i + 11 : 33 * i + 22] for i in range(3))  # of head 1
    expected = ((q @ k.T) / 11**0.5).softmax(dim=-1) @ v
    seen: list[torch.Tensor] = []
    layer.to_out.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    layer(x)
    torch.testing.assert_close(seen[0][0, :, 11:22], expected, atol=1e-5, rtol=1e-4)


def test_a_width_that_does_not_divide_is_refused_with_both_values() -> None:
    with pytest.raises(ValueError, match=r"model.width = 64 .* heads = 3"):
        ViTConfig(width=64).head_width_for(3)
    assert ViTConfig(width=64, head_width=16).head_width_for(3) == 16
    assert ViTConfig(width=48).head_width_for(3) == 16


def test_muon_gets_four_matrices_a_block() -> None:
    shapes = [tuple(p.shape) for p in make().hidden_matrices()]
    assert shapes == [(99, 33), (33, 33), (17, 33), (33, 17)] * 2


@pytest.mark.parametrize("pooling", ["mean", "class"])
@pytest.mark.parametrize("patches", [None, 24])
def test_training_flops_are_three_times_those_counted_in_a_forward_pass(
    pooling: str, patches: int | None
) -> None:
    config = ViTConfig(width=48, mlp_width=64, head_width=11, pooling=pooling)  # type: ignore[arg-type]
    model = ViT(layers=3, heads=2, config=config)
    # The counter knows products, and not torch's fused attention.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.randn(1, 1, 28, 28), patches and torch.arange(patches)[None])
    classifier = 2 * 48 * 10
    counted = 3 * (counter.get_total_flops() - classifier)
    flops = training_flops(layers=3, heads=2, config=config, patches=patches)
    assert flops == pytest.approx(counted, rel=0.005)
