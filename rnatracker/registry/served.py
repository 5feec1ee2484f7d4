"""What MLflow runs when it loads a registered model ("models from code"): each carries a copy of this file.

Owns nothing. A copy lives as long as its model, so it imports one module of ours, which keeps what it promises:
`rnatracker/registry/mlflow_model.py`.
"""

from mlflow.models import set_model

from rnatracker.registry.mlflow_model import served_model

set_model(served_model())
