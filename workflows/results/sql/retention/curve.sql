WITH seeds AS (
    SELECT place, model, stream, method, trajectory_id, edits, avg(success) AS share, avg(margin) AS margin,
           count(*)::INT AS n, bool_and(finite) AS finite
    FROM answers GROUP BY ALL
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, count(*) AS seeds, sum(n)::INT AS n,
           CASE WHEN bool_and(finite) THEN sum(share * n) / sum(n) END AS rate,
           CASE WHEN bool_and(finite) THEN stddev_samp(share) END AS sd_over_seeds,
           CASE WHEN bool_and(finite) THEN avg(margin) END AS margin,
           count(*) FILTER (NOT finite) AS collapsed
    FROM seeds GROUP BY model, stream, method, edits
)
SELECT model, stream, method, edits, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high, sd_over_seeds,
       margin, collapsed
FROM pooled ORDER BY place, edits
