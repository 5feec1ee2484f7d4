"""Networks that others begin from: finding one, what it brings, and which transcripts it has seen."""
