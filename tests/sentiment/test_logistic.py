import torch

from hwcli.sentiment import logistic
from hwcli.sentiment.heads import FrozenPooledHead, HeadConfig


def made_up(number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(number, 3, 5, generator=generator)
    labels = (pooled[:, 1, 2] + 0.3 * torch.randn(number, generator=generator) > 1).float()
    return pooled, labels


def test_the_fit_is_the_minimum_of_its_loss() -> None:
    """There the gradient of the mean cross entropy is -w / (C n), and that of the bias is 0."""
    (pooled, labels), (valid, valid_labels) = made_up(307, 0), made_up(101, 1)
    head = FrozenPooledHead(5, 3, HeadConfig(kind="mean", all_layers=True))
    head.standardize_by(pooled)
    strength, trained, validated = logistic.solve(head, pooled, labels, valid, valid_labels)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(head(pooled), labels)
    loss.backward()
    weight, bias = head.to_logit.weight, head.to_logit.bias
    expected = -weight.detach() / (strength * len(labels))
    torch.testing.assert_close(weight.grad, expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(bias.grad, torch.zeros(1), rtol=0, atol=2e-4)
    assert abs(trained.loss - loss.item()) < 1e-6
    assert validated.accuracy > 0.9  # of which 84 % are of one class
    assert head(valid).sigmoid().mean() < 0.25
