-- Mean absolute value over sites of every figure of geometry, NULL where one of them collapsed.
SELECT trajectory_id, edits, metric, protocol,
       CASE WHEN count(*) FILTER (status <> 'ok') = 0 THEN avg(abs(value)) END AS value
FROM rows
WHERE evaluator = 'geometry' AND site IS NOT NULL AND trajectory_id IS NOT NULL AND edits > 0
GROUP BY ALL
