"""Inspection of fitted estimators: metrics, comparisons, reports and displays."""
