-- One figure of geometry, by site and their mean (site NULL), and scores of edit quality or general means, at every
-- checkpoint of every trajectory.
SELECT CASE evaluator WHEN 'geometry' THEN 'geometry' ELSE 'score' END AS strip,
       model, stream, method, seed, edits, coalesce(task, metric) AS metric, protocol, site, status, value,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN avg(value) OVER here END AS mean,
       count(*) OVER here AS seeds
FROM points
WHERE edits > 0 AND (evaluator = 'geometry' AND metric = $against
   OR evaluator = 'general' AND metric = 'general_mean' AND $general
   OR evaluator = 'edit_quality' AND site IS NULL AND protocol = $protocol AND list_contains($metrics, metric))
WINDOW here AS (PARTITION BY model, stream, method, edits, metric, protocol, task, site)
ORDER BY model, stream, place, evaluator DESC, list_position($metrics, metric), site NULLS FIRST, edits
