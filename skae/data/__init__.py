"""Data: sources of samples, checks of values, encoded tables, and datasets for training."""
