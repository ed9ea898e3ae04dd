"""What the benches' tests share with those of the engines and of training: tiny models."""

from itool_pipeline_tests.engines.conftest import loaded, uneven_model_dir
from itool_pipeline_tests.training.conftest import adapted_model

__all__ = ["adapted_model", "loaded", "uneven_model_dir"]
