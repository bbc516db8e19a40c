-- The documents of every checkpoint, paired with the unedited model's where both were asked the same: one row for each
-- checkpoint, task and metric, lists in the order of the documents.
WITH unedited AS (
    SELECT d.*, b.place
    FROM documents AS d
    JOIN (SELECT DISTINCT root, model_digest, dtype, evaluator, evaluation_id, place FROM bases) AS b
      ON d.root = b.root AND d.trajectory_id IS NULL AND d.model_digest = b.model_digest AND d.dtype = b.dtype
     AND d.evaluator = b.evaluator AND d.evaluation_id = b.evaluation_id
),
-- The first of the plan, where the model was asked under several settings.
first AS (SELECT model_digest, dtype, min(place) AS place FROM unedited GROUP BY ALL)
SELECT a.trajectory_id, a.edits, a.task, a.filter, m.key AS metric,
       list(m.value ORDER BY a.doc_id) AS after,
       list(b.metrics[m.key] ORDER BY a.doc_id) AS before,
       list(a.weights[m.key] ORDER BY a.doc_id) AS weights
FROM documents AS a
JOIN first AS f USING (model_digest, dtype)
JOIN unedited AS b USING (model_digest, dtype, place, task, filter, doc_id, doc_hash),
     LATERAL (SELECT unnest(map_keys(a.metrics)) AS key, unnest(map_values(a.metrics)) AS value) AS m
WHERE a.trajectory_id IS NOT NULL AND ($task IS NULL OR a.task = $task)
GROUP BY ALL
