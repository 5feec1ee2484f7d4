"""Studies with a second objective: what a trial costs, and which trials nothing beats in both.

`cost.py` has the measures, `size.py` counts parameters, `order.py` says who is better, `pareto.py`
finds a study's front.
"""
