"""Fine-tuning of an edited model: low-rank adapters or the weights themselves, with checkpoints by optimiser steps."""
