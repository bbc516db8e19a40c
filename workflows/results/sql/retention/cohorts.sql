WITH cohorts AS (
    SELECT *, 'all' AS cohort FROM answers
    UNION ALL SELECT *, 'first ' || $cohort FROM answers WHERE edit <= $cohort
    UNION ALL SELECT *, 'latest ' || $cohort FROM answers WHERE edit > edits - $cohort
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, cohort, count(DISTINCT seed) AS seeds,
           count(*)::INT AS n, CASE WHEN bool_and(finite) THEN avg(success) END AS rate
    FROM cohorts GROUP BY model, stream, method, edits, cohort
)
SELECT model, stream, method, edits, cohort, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high
FROM pooled ORDER BY place, edits, cohort
