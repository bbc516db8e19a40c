-- One row for each score: of every checkpoint, and of the unedited model (0 edits) in every stream that starts from it.
CREATE OR REPLACE TEMP VIEW points AS
SELECT t.place, t.model, t.stream, t.method, t.seed, t.trajectory_id, s.edits, s.evaluator, s.metric, s.protocol,
       s.task, s.site, s.n, s.status, CASE WHEN s.status = 'ok' THEN s.value END AS value, t.last_edits,
       p.published
FROM rows AS s JOIN trajectories AS t ON s.trajectory_id = t.trajectory_id
LEFT JOIN published AS p
  ON p.model = t.model AND p.dataset = split_part(t.dataset, ':', 1) AND p.method = t.method AND p.edits = s.edits
 AND p.metric = s.metric AND p.protocol = s.protocol AND s.site IS NULL
UNION ALL
SELECT -1, b.model, b.stream, b.method, NULL, NULL, 0, s.evaluator, s.metric, s.protocol,
       s.task, s.site, s.n, s.status, CASE WHEN s.status = 'ok' THEN s.value END, 0, NULL
FROM rows AS s JOIN bases AS b
  ON s.root = b.root AND s.trajectory_id IS NULL AND s.model_digest = b.model_digest AND s.dtype = b.dtype
 AND s.evaluator = b.evaluator AND s.evaluation_id = b.evaluation_id
