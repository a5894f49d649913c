"""The formulas of the hand-in, computed plainly as they are printed, against the code."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from hwcli.attention.functional import linear_attention, softmax_attention
from hwcli.report import notebook, templates, vision
from hwcli.report.runs import find_runs
from hwcli.rnn.spec import NetworkSpec
from hwcli.rnn.trace import trace
from hwcli.sentiment.heads import GRUHead, HeadConfig
from hwcli.sentiment.training import batch_loss
from hwcli.vision.vit import ViT, ViTConfig, to_patches

from .conftest import COMMITTED


@pytest.fixture(scope="module")
def printed() -> str:
    """All text of the hand-in, each formula on one line."""
    cells = notebook.all_cells(find_runs(COMMITTED), {"runs": ".."}, notebook.Author())
    return " ".join("\n".join(cell.source for cell in cells if cell.kind == "text").split())


def test_the_recurrence_and_its_sum_are_what_the_network_computes(printed: str) -> None:
    for formula in (
        r"$h_0 = 0$",
        r"$$h_t = -h_{t-1} + x_t$$",
        r"$$z_t = 1000\,h_t$$",
        r"$$y_t = \sigma(z_t) = 1/(1 + \exp(-z_t))$$",
        r"$$h_T = \sum_{t=1}^{T} (-1)^{T - t}\,x_t$$",
        r"$$z_T = 1000\,\sum_{t=1}^{T} (-1)^{T - t}\,x_t$$",
    ):
        assert formula in printed
    network = NetworkSpec(w_in=1, w_rec=-1, w_out=1000).network()
    xs = [Fraction(k * k % 23 - 11, 1000) for k in range(1, 72)]
    traced = trace(network, [(x,) for x in xs])
    h = Fraction(0)
    for T, (x, step) in enumerate(zip(xs, traced.head, strict=True), 1):
        h = -h + x
        unrolled = sum((-1) ** (T - t) * xs[t - 1] for t in range(1, T + 1))
        assert step.hidden == (h,) == (unrolled,)
        assert step.preactivation == 1000 * unrolled
        assert float(step.output) == pytest.approx(1 / (1 + math.exp(-1000 * h)), abs=1e-12)


@pytest.fixture
def tokens() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.rand(3, 2, 3, 67, 5, generator=generator, dtype=torch.float64)
    return q, k, v


def test_softmax_attention_is_the_printed_sum(
    printed: str, tokens: tuple[torch.Tensor, ...]
) -> None:
    assert (
        r"$$y_i = \sum_{j=1}^{T} \frac{e^{q_i^\top k_j / \sqrt{D}}} "
        r"{\sum_{l=1}^{T} e^{q_i^\top k_l / \sqrt{D}}}\, v_j , \qquad i = 1, \dots, T.$$"
    ) in printed
    q, k, v = tokens
    e = (torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(5)).exp()
    y = torch.einsum("bhij,bhjd->bhid", e, v) / e.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(softmax_attention(q, k, v), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_linear_attention_is_the_printed_quotient(
    printed: str, tokens: tuple[torch.Tensor, ...], causal: bool
) -> None:
    for formula in (
        r"$$y_i = \frac{\sum_{j} (q_i^\top k_j)\, v_j}{\sum_{j} q_i^\top k_j}.$$",
        r"= \frac{q_i^\top S}{q_i^\top z}, \qquad S = \sum_{j=1}^{T} k_j v_j^\top",
        r"z = \sum_{j=1}^{T} k_j",
        r"$S_i = S_{i-1} + k_i v_i^\top$ and $z_i = z_{i-1} + k_i$",
    ):
        assert formula in printed
    q, k, v = tokens
    outer = torch.einsum("bhjd,bhje->bhjde", k, v)  # k_j v_j^T
    if causal:
        S, z = outer.cumsum(dim=2), k.cumsum(dim=2)
    else:
        S, z = outer.sum(dim=2, keepdim=True).expand_as(outer), k.sum(2, keepdim=True).expand_as(k)
    y = torch.einsum("bhid,bhide->bhie", q, S) / torch.einsum("bhid,bhid->bhi", q, z)[..., None]
    made = linear_attention(q, k, v, feature_map="identity", causal=causal)
    torch.testing.assert_close(made, y, rtol=1e-9, atol=1e-9)


def test_the_gru_the_logit_and_the_loss_are_the_printed_ones(printed: str) -> None:
    for formula in (
        r"r_t &= \sigma(W_r s_t + U_r h_{t-1} + b_r)",
        r"u_t = \sigma(W_u s_t + U_u h_{t-1} + b_u)",
        r"\tilde h_t &= \tanh(W_h s_t + r_t \circ (U_h h_{t-1} + c_h) + b_h)",
        r"h_t = (1 - u_t) \circ \tilde h_t + u_t \circ h_{t-1}",
        r"p &= \sigma\bigl(w^\top [\overrightarrow{h}_n; \overleftarrow{h}_1] + b\bigr)",
        r"\mathrm{loss} = -y \log p - (1 - y) \log(1 - p)",
    ):
        assert formula in printed
    torch.manual_seed(0)
    D, H, n = 3, 5, 7
    head = GRUHead(D, HeadConfig(kind="gru", hidden=H, layers=2, dropout=0.0)).double()
    s = torch.randn(n, D, dtype=torch.float64)
    with torch.no_grad():
        x = s
        for layer in range(2):
            forward = _read(head.gru, f"l{layer}", x)
            backward = _read(head.gru, f"l{layer}_reverse", x.flip(0)).flip(0)
            x = torch.cat([forward, backward], dim=1)
        w, b = head.to_logit.weight[0], head.to_logit.bias[0]
        p = 1 / (1 + (-(torch.cat([forward[n - 1], backward[0]]) @ w + b)).exp())
        # A second review is padded: what stands in the padding is never read.
        padded = torch.stack([torch.cat([s, torch.full((4, D), 9.0)]), torch.randn(n + 4, D)])
        logits = head(padded, torch.tensor([n, n + 4]))
        torch.testing.assert_close(logits[0].sigmoid(), p, rtol=1e-9, atol=1e-9)
        for y in (0.0, 1.0):
            loss = -y * p.log() - (1 - y) * (1 - p).log()
            made = batch_loss(logits[:1], torch.tensor([y], dtype=torch.float64)).loss
            torch.testing.assert_close(made, loss, rtol=1e-9, atol=1e-9)


def _read(gru: nn.Module, name: str, states: torch.Tensor) -> torch.Tensor:
    """Return h_1 .. h_n of one direction, from h_0 = 0."""

    def thirds(kind: str) -> tuple[torch.Tensor, ...]:
        return gru.get_parameter(f"{kind}_{name}").chunk(3)

    (W_r, W_u, W_h), (U_r, U_u, U_h) = thirds("weight_ih"), thirds("weight_hh")
    (b_r, b_u, b_h), (c_r, c_u, c_h) = thirds("bias_ih"), thirds("bias_hh")
    h = torch.zeros(len(c_h), dtype=states.dtype)
    found = []
    for s in states:
        # torch has two biases where the formula has their sum.
        r = (W_r @ s + U_r @ h + (b_r + c_r)).sigmoid()
        u = (W_u @ s + U_u @ h + (b_u + c_u)).sigmoid()
        new = (W_h @ s + r * (U_h @ h + c_h) + b_h).tanh()
        h = (1 - u) * new + u * h
        found.append(h)
    return torch.stack(found)


@pytest.mark.parametrize("pooling", ["mean", "class"])
def test_the_formula_of_the_vit_is_what_the_code_computes(printed: str, pooling: str) -> None:
    """The displayed equations, computed with plain tensor products, against ``ViT.forward``."""
    for formula in (
        # A class token is the first of them (test_sections.py).
        r"X_0 &= [E p_1; \dots; E p_N] + E_{\mathrm{pos}}",
        r"X'_l &= X_{l-1} + \mathrm{MSA}(\mathrm{LN}(X_{l-1}))",
        r"X_l &= X'_l + \mathrm{MLP}(\mathrm{LN}(X'_l))",
        r"\mathrm{logits} &= W\, \mathrm{LN}\Bigl(\tfrac1N \sum_{i=1}^{N} (X_L)_i\Bigr) + b",
    ):
        assert formula in printed
    assert vision.POOLED["class"] == r"\mathrm{LN}\bigl((X_L)_0\bigr)"
    torch.manual_seed(0)
    config = ViTConfig(
        patch_size=4, width=6, mlp_width=10, head_width=None, pooling=pooling,
        attention="softmax", dropout=0.0,
    )  # fmt: skip
    model = ViT(layers=2, heads=3, config=config, image_size=8, num_classes=5).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
        images = torch.randn(7, 1, 8, 8, dtype=torch.float64)
        x = to_patches(images, 4) @ model.embed.weight.T + model.embed.bias
        if model.class_token is not None:
            x = torch.cat([model.class_token.expand(7, 1, 6), x], dim=1)
        x = x + model.positions
        for block in model.blocks:
            normed = block.norm1(x)
            q, k, v = (normed @ block.attention.to_qkv.weight.T).chunk(3, dim=-1)
            heads = []
            for h in range(3):
                one = slice(2 * h, 2 * h + 2)
                weights = (q[..., one] @ k[..., one].mT / 2**0.5).softmax(dim=-1)
                heads.append(weights @ v[..., one])
            x = x + block.attention.to_out(torch.cat(heads, dim=-1))
            x = x + block.mlp(block.norm2(x))
        pooled = x.mean(dim=1) if pooling == "mean" else x[:, 0]
        logits = model.norm(pooled) @ model.head.weight.T + model.head.bias
        torch.testing.assert_close(model(images), logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("sentence", "typeset"),
    [
        (
            "z_T = 1000·Σ_{t=1..T} (-1)^(T - t)·x_t, within 10^-434 unless abs(z_T) is 0.",
            r"$z_T = 1000\,\sum_{t=1}^{T} (-1)^{T - t}\,x_t$, within $10^{-434}$ "
            r"unless $\left|z_T\right|$ is 0.",
        ),
        (
            "For T = 1 it says h_1 = -h_0 + x_1 with h_0 = 0.",
            "For $T = 1$ it says $h_1 = -h_0 + x_1$ with $h_0 = 0$.",
        ),
        ("T = 1,000 is even", r"$T = \text{1,000}$ is even"),
        ("T^2.01 for softmax, T^-1 for none", "$T^{2.01}$ for softmax, $T^{-1}$ for none"),
        ("with T x T weights: O(T^2).", r"with $T \times T$ weights: $O(T^{2})$."),
        ("from T = D = 64, in 49% of", "from $T = D = 64$, in 49% of"),
        ("The T-shirt of 4 x 4 patches", "The T-shirt of 4 x 4 patches"),
    ],
)
def test_formulas_inside_sentences_are_set_as_formulas(sentence: str, typeset: str) -> None:
    assert templates.with_formulas(sentence) == typeset


def test_a_product_of_two_numbers_has_a_dot() -> None:
    assert templates.in_tex("step(1·0 + 2·h_1)") == r"\mathrm{step}(1 \cdot 0 + 2\,h_1)"
