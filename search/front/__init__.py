"""Studies with a second objective: what a trial costs, and which trials nothing beats in both.

`cost.py` has the measures, `size.py` counts parameters, `pareto.py` finds the front.
"""
