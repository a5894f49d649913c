"""What both ways of O(T) attention have to give: the quadratic form and its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from hwcli.attention import causal, streaming
from hwcli.attention.causal import CHUNK, CausalLinearAttention
from hwcli.attention.feature_maps import FeatureMapName
from hwcli.attention.streaming import LinearAttention
from tests.attention.reference import MAPS, draw, gradients, plain_linear

FORMS = {False: LinearAttention, True: CausalLinearAttention}


@pytest.mark.slow
@pytest.mark.parametrize("is_causal", FORMS)
@pytest.mark.parametrize("name", MAPS)
def test_the_gradients_pass_a_numerical_check(
    name: FeatureMapName, is_causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_block", lambda D: 3)
    monkeypatch.setattr(causal, "CHUNK", 3)
    monkeypatch.setattr(causal, "BLOCK_TOKENS", 6)
    q, k, v = draw(1, 2, 11, 2, positive=True)
    attend = FORMS[is_causal].apply
    assert torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, name), (q, k, v))


@pytest.mark.parametrize("is_causal", FORMS)
@settings(deadline=None, max_examples=40)
@given(
    B=st.integers(1, 3),
    H=st.integers(1, 3),
    T=st.integers(1, 3 * CHUNK + 1),
    D=st.integers(1, 5),
    name=st.sampled_from(MAPS),
)
def test_any_shape_gives_the_quadratic_form(
    is_causal: bool, B: int, H: int, T: int, D: int, name: FeatureMapName
) -> None:
    q, k, v = draw(B, H, T, D, seed=T, positive=True)
    want = plain_linear(q, k, v, name, causal=is_causal)
    got = FORMS[is_causal].apply(q, k, v, name)
    assert_close(got, want)
    for ours, theirs in zip(gradients(got, q, k, v), gradients(want, q, k, v), strict=True):
        assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
