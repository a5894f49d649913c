import math

import pytest
import torch
from torch import nn

from hwcli.sentiment.gru import BidirectionalGRU, last_valid, reverse_valid

LENGTHS = torch.tensor([11, 1, 6])


def twins(dtype: torch.dtype = torch.float64) -> tuple[nn.GRU, BidirectionalGRU]:
    """torch's GRU and ours with the same weights."""
    torch.manual_seed(0)
    reference = nn.GRU(7, 5, num_layers=2, bidirectional=True, batch_first=True).to(dtype)
    own = BidirectionalGRU(7, hidden=5, layers=2, dropout=0.0).to(dtype)
    own.load_state_dict(reference.state_dict())
    return reference, own


def packed(reference: nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """The two final states as packed sequences give them."""
    sequences = nn.utils.rnn.pack_padded_sequence(
        x, LENGTHS, batch_first=True, enforce_sorted=False
    )
    _, final = reference(sequences)
    return torch.cat([final[-2], final[-1]], dim=-1)


def test_one_step_is_the_equation() -> None:
    """h = (1 - z) n with h_0 = 0: x 2, every weight 0.5, every bias 0.1."""
    gru = BidirectionalGRU(1, hidden=1, layers=1, dropout=0.0)
    for name, parameter in gru.named_parameters():
        nn.init.constant_(parameter, 0.5 if "weight" in name else 0.1)
    r = z = 1 / (1 + math.exp(-1.2))  # 0.5 * 2 + 0.1 + 0.1
    n = math.tanh(1.1 + r * 0.1)
    out = gru(torch.tensor([[[2.0]]]), torch.tensor([1]))
    assert out.tolist()[0] == pytest.approx([(1 - z) * n] * 2)


def test_final_states_and_gradients_are_those_of_packed_sequences() -> None:
    reference, own = twins()
    x = torch.randn(3, 11, 7, dtype=torch.float64, requires_grad=True)
    expected, found = packed(reference, x), own(x, LENGTHS)
    torch.testing.assert_close(found, expected)
    for theirs, ours in zip(
        torch.autograd.grad(expected.square().sum(), [x, *reference.parameters()]),
        torch.autograd.grad(found.square().sum(), [x, *own.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_what_stands_behind_a_texts_end_is_never_read() -> None:
    _, own = twins()
    x = torch.randn(3, 11, 7, dtype=torch.float64)
    filled = x.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        filled[row, length:] = 1e6
    torch.testing.assert_close(own(filled, LENGTHS), own(x, LENGTHS), rtol=0, atol=0)


def test_bfloat16_products_stay_close_to_float32() -> None:
    reference, own = twins(torch.float32)
    x = torch.randn(3, 11, 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = own(x, LENGTHS)
    torch.testing.assert_close(found, packed(reference, x), rtol=0, atol=2e-2)
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())


def test_reversing_and_gathering_by_hand() -> None:
    x = torch.arange(10).view(5, 2, 1)  # two texts: 0 2 4 6 8 and 1 3 5 7 9
    lengths = torch.tensor([3, 5])
    assert reverse_valid(x, lengths)[:, :, 0].T.tolist() == [[4, 2, 0, 6, 8], [9, 7, 5, 3, 1]]
    assert last_valid(x, lengths)[:, 0].tolist() == [4, 9]
