"""The fact world: a small language model, trained here, and the facts it knows."""

from sphere_core.datasets.factworld.corpus import corpus_sentences
from sphere_core.datasets.factworld.recall import RecallReport, recall
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import read_world, shipped_model_dir, shipped_world
from sphere_core.datasets.factworld.training import (
    Progress,
    TrainingSettings,
    read_settings,
    shipped_settings,
    train_factworld,
)
from sphere_core.datasets.factworld.world import Fact, Relation, World, build_world

__all__ = [
    "Fact",
    "Progress",
    "RecallReport",
    "Relation",
    "TrainingSettings",
    "World",
    "build_world",
    "corpus_sentences",
    "edit_records",
    "read_settings",
    "read_world",
    "recall",
    "shipped_model_dir",
    "shipped_settings",
    "shipped_world",
    "train_factworld",
]
