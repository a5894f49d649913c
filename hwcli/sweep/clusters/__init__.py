"""Launchers for clusters: SLURM and Ray. A reader of the sweep may skip them."""
