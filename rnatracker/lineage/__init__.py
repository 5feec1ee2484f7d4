"""What went into a run: the transcripts that had a part in its weights, those of its parents included."""
