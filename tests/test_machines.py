from collections.abc import Iterator

import pytest

from hwcli import machines, system


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Pretend to be on macOS, where commands answer what the test puts here."""
    answers: dict[str, str] = {}
    monkeypatch.setattr(machines.sys, "platform", "darwin")
    monkeypatch.setattr(system, "output_of", lambda *command: answers.get(command[-1], ""))
    monkeypatch.setattr(system, "text_of", lambda path: "")
    monkeypatch.setattr(machines, "_process_space", lambda: "")
    yield answers
    forget()


def forget() -> None:
    for function in (machines._machine_name, machines.machine_id, machines.host_id):
        function.cache_clear()


def test_a_mac_keeps_its_names_in_another_network_and_one_of_them_over_a_restart(
    on_a_mac: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(node: str, boot: str) -> tuple[str, str]:
        monkeypatch.setattr(machines.platform, "node", lambda: node)
        on_a_mac["kern.bootsessionuuid"] = boot
        forget()
        return machines.machine_id(), machines.host_id()

    at_home = names("mac.home", "A")
    assert names("mac.university", "A") != at_home  # the host name is all that is known
    on_a_mac["IOPlatformExpertDevice"] = '  "IOPlatformUUID" = "5C6B-11"\n'
    at_home = names("mac.home", "A")
    assert names("mac.university", "A") == at_home
    restarted = names("mac.home", "B")
    assert restarted[0] != at_home[0]
    assert restarted[1] == at_home[1]
