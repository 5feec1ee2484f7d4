"""RNATracker: from an mRNA's sequence to the fraction of it at each site of the cell.

Owns the version. Importing the package costs nothing: it imports nothing. Read next: `rnatracker/config.py` for what a
run is made of, `rnatracker/training/run.py` for how one happens.
"""

__version__ = "0.1.0"

# Where models that were registered before find what they import: see `rnatracker/old_names/__init__.py`.
__path__.append(f"{__path__[0]}/old_names")
