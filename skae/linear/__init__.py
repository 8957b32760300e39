"""Closed forms: PCA, factor analysis, and the Gaussian models behind them."""
