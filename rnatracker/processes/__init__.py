"""Which processes do what."""
