"""Logistic regression on pooled states of a frozen encoder, solved to its end.

The loss is convex: the mean cross entropy plus |w|^2 / (2 C n). Taking steps of a schedule of
fixed length stops short of its minimum where reviews are few or one class is rare.
"""

import numpy as np
import torch
from torch import Tensor

from hwcli.sentiment.classifier import mean_of
from hwcli.sentiment.heads import FrozenPooledHead
from hwcli.training.metrics import Mean

# Tried from strong to weak regularisation; the validation loss chooses.
STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0)
MAX_ITERATIONS = 5000


def solve(
    head: FrozenPooledHead, pooled: Tensor, labels: Tensor, valid: Tensor, valid_labels: Tensor
) -> tuple[float, Mean, Mean]:
    """Set a head's weights by logistic regression.

    Args:
        head: standardised by the training states.
        pooled: (N, L + 1, D) of the training reviews.
        labels: (N,) of 0 and 1.
        valid: states of the validation reviews.
        valid_labels: theirs.

    Returns:
        C, and loss and accuracy on training and validation reviews.
    """
    from sklearn.linear_model import LogisticRegression

    x = head.standardized(pooled).cpu().numpy().astype(np.float64)
    y = labels.cpu().numpy()
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    best: tuple[float, float, Tensor, Tensor] | None = None
    for strength in STRENGTHS:
        model.set_params(C=strength).fit(x, y)
        _write(head, torch.from_numpy(model.coef_[0]), torch.from_numpy(model.intercept_))
        loss = _figures(head, valid, valid_labels).loss
        if best is None or loss < best[1]:
            weight = head.to_logit.weight.detach().clone()
            best = (strength, loss, weight[0], head.to_logit.bias.detach().clone())
    assert best is not None
    _write(head, *best[2:])
    return best[0], _figures(head, pooled, labels), _figures(head, valid, valid_labels)


@torch.no_grad()
def _write(head: FrozenPooledHead, weight: Tensor, bias: Tensor) -> None:
    head.to_logit.weight[0].copy_(weight)
    head.to_logit.bias.copy_(bias)


@torch.inference_mode()
def _figures(head: FrozenPooledHead, pooled: Tensor, labels: Tensor) -> Mean:
    head.eval()
    return mean_of(head(pooled).float().cpu(), labels.cpu())
