"""What is computed of sequences: k-mers, and reading frames."""
