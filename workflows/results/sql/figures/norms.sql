-- One figure of geometry of every site at every checkpoint, and of the unedited weights.
SELECT model, stream, method, seed, edits, site, metric, protocol, status, value,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN avg(value) OVER here END AS mean,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN stddev_samp(value) OVER here END AS sd,
       min(value) OVER here AS smallest, max(value) OVER here AS largest, count(*) OVER here AS seeds
FROM points
WHERE evaluator = 'geometry' AND site IS NOT NULL AND metric = $metric
WINDOW here AS (PARTITION BY model, stream, method, edits, site, protocol)
ORDER BY model, stream, site, place, edits
