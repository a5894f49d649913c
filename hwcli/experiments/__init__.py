"""One file per question: its config and its ``run``, readable from top to bottom."""
