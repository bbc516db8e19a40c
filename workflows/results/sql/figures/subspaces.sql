-- Scores, general means and similarity of dominant subspaces, at every checkpoint; nothing without the latter.
WITH tracks AS (
    SELECT *, coalesce(task, metric) AS track,
           CASE evaluator WHEN 'edit_quality' THEN 0 WHEN 'general' THEN 1 ELSE 2 END AS strip
    FROM points
    WHERE site IS NULL AND edits > 0
      AND (evaluator = 'geometry' AND list_contains($tracks, metric)
           OR evaluator = 'edit_quality' AND protocol = $protocol AND list_contains($metrics, metric)
           OR evaluator = 'general' AND metric = 'general_mean')
)
SELECT model, stream, method, seed, edits, track, protocol, status, value,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN avg(value) OVER here END AS mean,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN stddev_samp(value) OVER here END AS sd,
       min(value) OVER here AS smallest, max(value) OVER here AS largest, count(*) OVER here AS seeds
FROM tracks
WHERE EXISTS (FROM tracks WHERE strip = 2)
WINDOW here AS (PARTITION BY model, stream, method, edits, track, protocol)
ORDER BY model, stream, strip, list_position($metrics, metric), list_position($tracks, metric), track, place, edits
