-- Spearman's correlation of what was known of an edit with its loss, among the edits that took: ranks within a
-- trajectory, ties at their mean rank. `given_age` holds the place in the stream fixed (partial correlation): early
-- edits have both more time to be lost and more later keys. Trajectories are pooled by Fisher's z, weighted by n - 3;
-- the interval has Bonett and Wright's variance, (1 + r^2 / 2) / (n - 3) (Psychometrika 65, 2000).
WITH known AS (
    SELECT l.trajectory_id, (NOT l.kept)::DOUBLE AS y, l.written AS z,
           l.strength::DOUBLE AS strength, l.written::DOUBLE AS written,
           s.* EXCLUDE (trajectory_id, edit, edits)
    FROM lives AS l
    LEFT JOIN similarity AS s ON s.trajectory_id = l.trajectory_id AND s.edit = l.edit AND s.edits = l.last_checkpoint
    WHERE l.installed AND l.kept IS NOT NULL AND l.finite
),
-- One row for each edit and each thing known of it: all columns but the first three.
pairs AS (
    SELECT trajectory_id, y, z, predictor, x
    FROM (UNPIVOT known ON COLUMNS(* EXCLUDE (trajectory_id, y, z)) INTO NAME predictor VALUE x)
),
ranked AS (
    SELECT trajectory_id, predictor,
           rank() OVER (w ORDER BY x) + (count(*) OVER (PARTITION BY trajectory_id, predictor, x) - 1) / 2 AS rx,
           rank() OVER (w ORDER BY y) + (count(*) OVER (PARTITION BY trajectory_id, predictor, y) - 1) / 2 AS ry,
           rank() OVER (w ORDER BY z) + (count(*) OVER (PARTITION BY trajectory_id, predictor, z) - 1) / 2 AS rz
    FROM pairs WINDOW w AS (PARTITION BY trajectory_id, predictor)
),
rhos AS (
    SELECT trajectory_id, predictor, count(*)::INT AS n,
           CASE WHEN stddev_pop(rx) > 0 AND stddev_pop(ry) > 0 THEN corr(rx, ry) END AS xy,
           CASE WHEN stddev_pop(rx) > 0 AND stddev_pop(rz) > 0 THEN corr(rx, rz) END AS xz,
           CASE WHEN stddev_pop(ry) > 0 AND stddev_pop(rz) > 0 THEN corr(ry, rz) END AS yz
    FROM ranked GROUP BY ALL HAVING n > 3
),
partial AS (
    SELECT *, CASE WHEN xz^2 < 1 - 1e-9 AND yz^2 < 1 - 1e-9
                   THEN (xy - xz * yz) / sqrt((1 - xz^2) * (1 - yz^2)) END AS given
    FROM rhos WHERE xy IS NOT NULL
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, predictor, count(*) AS seeds, sum(n)::INT AS n,
           sum(n - 3) AS weight,
           sum((n - 3) * atanh(least(greatest(xy, -0.999999), 0.999999))) / weight AS z,
           sum((n - 3) * atanh(least(greatest(given, -0.999999), 0.999999)))
               / sum(n - 3) FILTER (given IS NOT NULL) AS given_z
    FROM partial JOIN trajectories USING (trajectory_id) GROUP BY model, stream, method, predictor
)
SELECT model, stream, method, predictor, seeds, n, tanh(z) AS spearman,
       tanh(z - 1.959964 * sqrt((1 + tanh(z)^2 / 2) / weight)) AS low,
       tanh(z + 1.959964 * sqrt((1 + tanh(z)^2 / 2) / weight)) AS high, tanh(given_z) AS given_age
FROM pooled ORDER BY place, predictor
