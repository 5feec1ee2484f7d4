"""The tables of an SQLite database of MLflow, used by SQL where its own interface is too slow or can't."""
