"""Training: one run, its folds, its record."""
