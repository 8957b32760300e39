"""What looks at fitted estimators: metrics, comparisons, reports and displays."""
