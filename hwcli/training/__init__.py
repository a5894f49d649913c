"""How every network here is trained: optimiser, schedule, the one loop, checkpoints, metrics."""
