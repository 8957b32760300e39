"""Likelihoods of a sample given its code, one family a file."""
