"""Files, storage, digests, errors and facts about processes. Knows no model."""
