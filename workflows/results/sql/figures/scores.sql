-- Scores of edit quality at every checkpoint, each seed's beside the mean over seeds; no mean if one of them collapsed.
SELECT model, stream, method, seed, edits, metric, protocol, n, status, value, published,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN avg(value) OVER here END AS mean,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN stddev_samp(value) OVER here END AS sd,
       min(value) OVER here AS smallest, max(value) OVER here AS largest, count(*) OVER here AS seeds
FROM points
WHERE evaluator = 'edit_quality' AND site IS NULL AND protocol = $protocol AND list_contains($metrics, metric)
WINDOW here AS (PARTITION BY model, stream, method, edits, metric, protocol)
ORDER BY model, stream, list_position($metrics, metric), place, edits
