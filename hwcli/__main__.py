"""Run the program as ``python -m hwcli``."""

from hwcli.cli import main

main()
