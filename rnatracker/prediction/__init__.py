"""Predicting transcripts, and writing what was predicted."""
