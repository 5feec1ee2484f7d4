"""What is computed of sequences: k-mers, reading frames, and what those hold."""
