"""Many trials of one function over a grid: identity, store, workers, live view."""
