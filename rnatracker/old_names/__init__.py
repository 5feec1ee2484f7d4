"""Names under which models registered before the move of 2026-11 import what they need.

Each such model carries a copy of an older `rnatracker/registry/served.py`. Nothing else may import from here; new
copies import `rnatracker.registry.mlflow_model` alone. `rnatracker/__init__.py` puts this folder on the package's
path.
"""
