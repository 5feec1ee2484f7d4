"""Several runs as one model, each counting what their out-of-fold predictions say."""
