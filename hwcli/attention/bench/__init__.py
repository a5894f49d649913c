"""Measure the attention of this package: inputs, reference, time, memory, and what they show."""
