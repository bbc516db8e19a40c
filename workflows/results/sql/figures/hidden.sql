-- The shift of hidden states at every checkpoint, and of the unedited model, where it is none.
SELECT model, stream, method, seed, edits, metric, protocol, status, n, value,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN avg(value) OVER here END AS mean,
       CASE WHEN count(value) OVER here = count(*) OVER here THEN stddev_samp(value) OVER here END AS sd,
       min(value) OVER here AS smallest, max(value) OVER here AS largest, count(*) OVER here AS seeds
FROM points
WHERE evaluator = 'geometry' AND site IS NULL AND starts_with(metric, 'hidden_')
WINDOW here AS (PARTITION BY model, stream, method, edits, metric, protocol)
ORDER BY model, stream, metric, protocol, place, edits
