-- Every score of every checkpoint, NULL where it collapsed or failed.
SELECT trajectory_id, edits, metric, protocol, task, CASE WHEN status = 'ok' THEN value END AS value
FROM rows
WHERE evaluator <> 'geometry' AND site IS NULL AND trajectory_id IS NOT NULL AND edits > 0
