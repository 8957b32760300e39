"""Likelihoods of a sample given its code: one module for each family."""
