-- One row for each score of an edited checkpoint, with the unedited model's under the same evaluator beside it.
CREATE VIEW scores AS
SELECT t.root, t.trajectory_id, t.model, t.stream, t.dataset, t.stream_order, t.method, t.seed, t.batch_size,
       r.edits, r.edits = t.last_edits AS is_last, r.evaluator, r.evaluation_id, r.metric, r.protocol, r.task,
       r.value, r.stderr, r.ci_low, r.ci_high, r.n, r.nonfinite, r.tied, r.status, r.reason, r.higher_is_better,
       u.value AS unedited, u.status AS unedited_status, r.value - u.value AS change
FROM edited_rows AS r
JOIN planned AS t ON r.trajectory_id = t.trajectory_id
LEFT JOIN starts AS s ON s.trajectory_id = t.trajectory_id AND s.evaluator = r.evaluator
LEFT JOIN unedited_rows AS u
  ON u.root = t.root AND u.model_digest = t.model_digest AND u.evaluator = r.evaluator
 AND u.evaluation_id = s.evaluation_id AND u.metric = r.metric AND u.protocol = r.protocol
 AND u.task IS NOT DISTINCT FROM r.task
WHERE r.evaluator <> 'geometry'
