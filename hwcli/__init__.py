"""hw2: four experiments of a deep-learning homework, run from the command line."""

__version__ = "0.2.0.dev0"
