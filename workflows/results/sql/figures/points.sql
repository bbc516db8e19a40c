-- One row for each score: of every checkpoint, and of the unedited model (0 edits) in every stream that starts from it.
CREATE OR REPLACE TEMP TABLE points AS
SELECT t.place, t.model, t.stream, t.method, t.seed, t.trajectory_id, s.edits, s.evaluator, s.metric, s.protocol,
       s.task, s.site, s.n, s.status, CASE WHEN s.status = 'ok' THEN s.value END AS value, t.last_edits,
       p.published
FROM edited_rows AS s JOIN planned AS t ON s.trajectory_id = t.trajectory_id
LEFT JOIN published AS p
  ON p.model = t.model AND p.dataset = split_part(t.dataset, ':', 1) AND p.method = t.method AND p.edits = s.edits
 AND p.metric = s.metric AND p.protocol = s.protocol AND s.site IS NULL
UNION ALL
SELECT -1, b.model, b.stream, b.method, NULL, NULL, 0, s.evaluator, s.metric, s.protocol,
       s.task, s.site, s.n, s.status, CASE WHEN s.status = 'ok' THEN s.value END, 0, NULL
FROM unedited_rows AS s JOIN bases AS b
  ON b.root = s.root AND b.model_digest = s.model_digest AND b.dtype = s.dtype AND b.evaluator = s.evaluator
 AND b.evaluation_id = s.evaluation_id
