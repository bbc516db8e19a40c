-- One row for each figure of geometry, the mean over the edited sites, at each checkpoint; the unedited model's beside it.
CREATE VIEW geometry_means AS
SELECT t.root, t.trajectory_id, t.model, t.stream, t.dataset, t.stream_order, t.method, t.seed, t.batch_size,
       r.edits, r.edits = t.last_edits AS is_last, r.evaluation_id, r.metric, r.protocol, r.value, r.n, r.status,
       r.reason, u.value AS unedited, r.value - u.value AS change
FROM edited_rows AS r
JOIN planned AS t ON r.trajectory_id = t.trajectory_id
LEFT JOIN starts AS s ON s.trajectory_id = t.trajectory_id AND s.evaluator = r.evaluator
LEFT JOIN unedited_rows AS u
  ON u.root = t.root AND u.model_digest = t.model_digest AND u.evaluator = r.evaluator
 AND u.evaluation_id = s.evaluation_id AND u.metric = r.metric AND u.protocol = r.protocol AND u.site IS NULL
WHERE r.evaluator = 'geometry' AND r.site IS NULL
