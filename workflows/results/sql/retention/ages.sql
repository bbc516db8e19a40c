-- A bin is as wide for every method: $batches of the smallest batch size.
WITH widths AS (SELECT ($batches * min(batch_size))::INT AS width FROM answers),
binned AS (SELECT *, (age // width * width)::INT AS age_from FROM answers CROSS JOIN widths),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, age_from, age_from + width - 1 AS age_to,
           count(DISTINCT seed) AS seeds, count(*)::INT AS n,
           CASE WHEN bool_and(finite) THEN avg(success) END AS rate
    FROM binned GROUP BY model, stream, method, edits, age_from, width
)
SELECT model, stream, method, edits, age_from, age_to, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high
FROM pooled ORDER BY place, edits, age_from
