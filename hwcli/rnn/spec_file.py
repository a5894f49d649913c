"""An exercise in one file: the network's keys and the config's stand side by side."""

from pathlib import Path
from typing import Any

import yaml

from hwcli.config import spelled_as_name
from hwcli.errors import ConfigError, short
from hwcli.rnn.activations import ALIASES
from hwcli.rnn.exact import to_json
from hwcli.rnn.letters import Alphabet
from hwcli.rnn.spec import IN_A_LAYER, NO_ACTIVATION, OF_SIMPLE_NETWORKS, STEPS, NetworkSpec
from hwcli.rnn.spec_fields import NAMES, with_our_names
from hwcli.yaml_files import read_yaml

# Keys of an exercise's file that are no weights.
CONFIG_KEYS = {
    "name",
    "inputs",
    "inputs_file",
    "length",
    "alphabet",
    "letters",
    "steps",
    "max_states",
    "seed",
    "targets",
    "loss",
    "expect",
}


def read_spec(path: Path) -> dict[str, Any]:
    """Read an exercise's file: keys of the config as they are, all others under ``network``.

    The run has the file's name, unless the file has a key ``name``.

    Raises:
        ConfigError: the file cannot be read, or gives a network twice.
    """
    content = read_yaml(path)
    ours = set(NetworkSpec.model_fields) | set(NAMES)
    bare = {key: value for key, value in content.items() if key in ours}
    others = {key: value for key, value in content.items() if key not in ours}
    rest = {"name": spelled_as_name(path.stem, "spec"), **others}
    if bare and "network" in rest:
        raise ConfigError(f"{path}: {next(iter(bare))} belongs under network:")
    if not bare:
        return {**rest, "network": _complete(rest["network"])} if "network" in rest else rest
    # What is none of the config's keys was meant for the network, whose choices are then listed.
    config_keys = CONFIG_KEYS & set(rest)
    network = {**bare, **{key: rest[key] for key in set(rest) - config_keys}}
    return {**{key: rest[key] for key in config_keys}, "network": _complete(network)}


def _complete(network: Any) -> Any:
    """Add the defaults of what is not given, so that nothing of the shipped network is left."""
    if not isinstance(network, dict):
        return network
    try:
        given = with_our_names(network)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    defaults = {key: field.default for key, field in NetworkSpec.model_fields.items()}
    # The config of a run spells out every default.
    if not defaults.keys() <= given.keys():
        _refuse_unread(given)
    return {**defaults, **given}


def _refuse_unread(given: dict[str, Any]) -> None:
    """Refuse what a network would not read, where its value alone may be a default or a preset's.

    Only here is it known to be given.

    Raises:
        ConfigError: one line with the key and the cure.
    """

    def activation(key: str) -> str:
        written = str(given.get(key))
        return ALIASES.get(written, written)

    unread: list[tuple[str, str, str]] = []
    for key, threshold in (("activation", "threshold"), ("output_activation", "output_threshold")):
        if given.get(threshold) is not None and activation(key) not in (*STEPS, "None"):
            unread.append((key, f"beside network.{threshold}", NO_ACTIVATION))
    if activation("output_activation") == "logistic" and given.get("w_out") is None:
        cure = "give w_out, or linear outputs"
        unread.append(("output_activation", "without network.w_out", cure))
    if given.get("layers"):
        weights = [key for key in ("w_in", "w_rec") if given.get(key) is not None]
        unread += [(key, "beside network.layers", IN_A_LAYER) for key in weights]
    for key, reason, cure in unread:
        raise ConfigError(f"network.{key} = {short(given[key])} has no effect {reason}: {cure}")


def without_shipped_weights(network: dict[str, Any], shipped: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the layers of a network replace of the shipped one, over which it is laid."""
    # A run's own config spells the shipped weights as they were read.
    read = NetworkSpec.model_validate(shipped).model_dump(mode="json")
    return {
        key: value
        for key, value in network.items()
        if key not in OF_SIMPLE_NETWORKS or value not in (shipped.get(key), read[key])
    }


def as_spec_file(spec: NetworkSpec, alphabet: Alphabet) -> str:
    """Spell a network as an exercise's file, with what it reads; only what is not the default."""
    values = spec.model_dump(mode="json", exclude_defaults=True)
    if alphabet.names:
        values["letters"] = {name: list(map(to_json, x)) for x, name in alphabet.names.items()}
    else:
        numbers = sorted({number for letter in alphabet.letters for number in letter})
        values["alphabet"] = ",".join(str(to_json(number)) for number in numbers)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
