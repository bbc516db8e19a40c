-- A cohort is what was written between two checkpoints; its curve is the share still right at each later checkpoint.
-- The area is divided by the span, so that 1 is an edit never lost; a cohort seen once has none.
CREATE TABLE areas AS
WITH curves AS (
    SELECT a.trajectory_id, l.installed_at AS cohort, a.edits, avg(a.success) AS rate, count(*)::INT AS n,
           bool_and(a.finite) AS finite
    FROM answers AS a JOIN lives AS l USING (trajectory_id, edit) GROUP BY ALL
),
steps AS (
    SELECT *, lead(edits) OVER w - edits AS span, (rate + lead(rate) OVER w) / 2 * span AS area
    FROM curves WINDOW w AS (PARTITION BY trajectory_id, cohort ORDER BY edits)
)
SELECT trajectory_id, cohort, max(n) AS n,
       CASE WHEN arg_min(finite, edits) THEN arg_min(rate, edits) END AS immediate,
       CASE WHEN bool_and(finite) THEN arg_max(rate, edits) END AS final,
       CASE WHEN bool_and(finite) THEN sum(area) / sum(span) END AS auc
FROM steps GROUP BY ALL
