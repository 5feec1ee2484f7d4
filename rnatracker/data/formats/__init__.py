"""The formats of files of transcripts, one module each. A new one gets its module here, and a name in `known.py`."""
