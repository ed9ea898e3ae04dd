"""Experiment configuration: frozen, validated, and free of torch. `experiment_files` reads it from YAML."""

from itool_pipeline.config.categories import (
    BFCL_CATEGORIES,
    BFCL_MULTI_TURN,
    BFCL_SINGLE_TURN,
    BFCL_TRAINING,
    ApiBankLevel,
    BfclCategory,
    BfclKind,
    BfclMultiTurnCategory,
    BfclSingleTurnCategory,
    BfclTrainingCategory,
)
from itool_pipeline.config.data import (
    BfclHalfData,
    DataConfig,
    DataLimits,
    DifficultyConfig,
    JsonlData,
    PromptConfig,
    SplitConfig,
    ToolAceData,
    XlamData,
)
from itool_pipeline.config.evaluation import ApiBankConfig, BfclConfig, EvaluationConfig
from itool_pipeline.config.experiment import MAX_ITERATIONS, Experiment
from itool_pipeline.config.fields import AtLeastOne, Count, Fraction, Positive, Section, Share
from itool_pipeline.config.model import ComputeConfig, HubModel, WheelModel
from itool_pipeline.config.search import (
    OutcomeConfig,
    PairsConfig,
    ReplayBufferConfig,
    SearchConfig,
    SelfEvaluationConfig,
)
from itool_pipeline.config.training import LoraConfig, OptimizerConfig, PreferenceConfig, WarmupConfig

__all__ = [
    "BFCL_CATEGORIES",
    "BFCL_MULTI_TURN",
    "BFCL_SINGLE_TURN",
    "BFCL_TRAINING",
    "MAX_ITERATIONS",
    "ApiBankConfig",
    "ApiBankLevel",
    "AtLeastOne",
    "BfclCategory",
    "BfclConfig",
    "BfclHalfData",
    "BfclKind",
    "BfclMultiTurnCategory",
    "BfclSingleTurnCategory",
    "BfclTrainingCategory",
    "ComputeConfig",
    "Count",
    "DataConfig",
    "DataLimits",
    "DifficultyConfig",
    "EvaluationConfig",
    "Experiment",
    "Fraction",
    "HubModel",
    "JsonlData",
    "LoraConfig",
    "OptimizerConfig",
    "OutcomeConfig",
    "PairsConfig",
    "Positive",
    "PreferenceConfig",
    "PromptConfig",
    "ReplayBufferConfig",
    "SearchConfig",
    "Section",
    "SelfEvaluationConfig",
    "Share",
    "SplitConfig",
    "ToolAceData",
    "WarmupConfig",
    "WheelModel",
    "XlamData",
]
