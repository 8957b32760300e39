"""Rows of data: where they are read from, what they may hold, and tables as numbers."""
