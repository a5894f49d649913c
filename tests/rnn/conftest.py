"""The command's own checks are many; fewer of them weaken no proof, and keep the tests short."""

import pytest

from hwcli.rnn import observations


@pytest.fixture(autouse=True)
def _few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observations, "MAX_EXHAUSTIVE", 500)
    monkeypatch.setattr(observations, "NUM_RANDOM", 10)
    monkeypatch.setattr(observations, "MAX_RANDOM_LENGTH", 50)
