"""General ability: lm-evaluation-harness tasks on the live model. The only room that imports lm_eval."""
