"""Transcripts and their measured site fractions: reading, writing, checking, dividing, simulating.

Must not know the model or mlflow. Read next: `transcripts.py`, the one data type; `readers.py`.
"""

from rnatracker.data.readers import read, read_unlabelled
from rnatracker.data.transcripts import Transcripts

__all__ = ["Transcripts", "read", "read_unlabelled"]
