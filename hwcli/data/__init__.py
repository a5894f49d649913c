"""Where data sets and weights come from: verified files, the hub, packages, one catalogue."""
