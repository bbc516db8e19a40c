"""Evaluators of plugins: the row that a plugin gives, the start of an evaluator, and the checks before one is run."""

from evaluators.plugins.plain import PlainEvaluator
from evaluators.plugins.rows import EvaluatorRow

__all__ = ["EvaluatorRow", "PlainEvaluator"]
