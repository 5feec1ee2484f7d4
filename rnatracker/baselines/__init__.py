"""What simple models reach on the same transcripts: the mean, the length, k-mers."""
