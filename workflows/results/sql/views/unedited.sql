-- One row for each score of an unedited model, in each stream whose trajectories start from it.
CREATE VIEW unedited AS
SELECT b.root, b.model, b.model_digest, b.stream, r.dataset, r.stream_order, r.seed, r.evaluator, r.evaluation_id,
       r.metric, r.protocol, r.site, r.task, r.value, r.stderr, r.ci_low, r.ci_high, r.n, r.nonfinite, r.tied,
       r.status, r.reason, r.higher_is_better
FROM unedited_rows AS r
JOIN bases AS b
  ON b.root = r.root AND b.model_digest = r.model_digest AND b.dtype = r.dtype AND b.evaluator = r.evaluator
 AND b.evaluation_id = r.evaluation_id
