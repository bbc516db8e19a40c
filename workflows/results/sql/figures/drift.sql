-- Each score beside one figure of geometry at every checkpoint: its mean absolute value over sites, if it is of sites.
WITH moved AS (
    SELECT trajectory_id, edits, metric AS against, avg(abs(value)) AS drift
    FROM points
    WHERE evaluator = 'geometry' AND metric = $against AND trajectory_id IS NOT NULL AND edits > 0
      AND (site IS NOT NULL OR NOT EXISTS (FROM points AS o WHERE o.metric = $against AND o.site IS NOT NULL))
    GROUP BY ALL HAVING count(value) = count(*)
)
SELECT p.model, p.stream, p.method, p.seed, p.trajectory_id, p.edits, m.against, m.drift, p.metric, p.protocol, p.task,
       p.status, p.value
FROM points AS p JOIN moved AS m USING (trajectory_id, edits)
WHERE p.site IS NULL AND list_contains($metrics, p.metric)
  AND (p.evaluator = 'edit_quality' AND p.protocol = $protocol OR p.evaluator = 'general')
ORDER BY p.model, p.stream, list_position($metrics, p.metric), p.task, p.place, p.edits
