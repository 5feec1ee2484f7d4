"""RNATracker: from an mRNA's sequence to the fraction of it at each site of the cell.

Importing the package costs nothing: it imports nothing. Read next: `rnatracker/config.py` for what
a run is made of, `rnatracker/run.py` for how one happens.
"""

__version__ = "0.1.0"
