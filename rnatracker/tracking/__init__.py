"""Runs: recorded, listed, found again."""
