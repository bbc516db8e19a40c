"""Where a fact sits: context templates, subject tokens, keys, targets, second moments."""
