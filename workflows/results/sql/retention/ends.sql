-- One row for each trajectory: its shares at both ends and its mean area. `never_back`: of the edits lost, those never
-- right again.
CREATE TABLE ends AS
WITH whole AS (
    SELECT trajectory_id, CASE WHEN count(final) = count(*) THEN avg(auc) END AS auc FROM areas GROUP BY ALL
),
shares AS (
    SELECT trajectory_id, any_value(last_checkpoint) AS edits, avg(installed::INT) AS immediate,
           avg(kept::INT) AS final, count(kept) AS n,
           count(*) FILTER (installed AND kept IS NOT NULL) AS installed,
           count(*) FILTER (installed AND NOT kept) AS lost,
           count(*) FILTER (first_lost IS NOT NULL) AS ever_lost,
           count(*) FILTER (last_right < first_lost) AS never_back,
           bool_and(finite) AS finite
    FROM lives GROUP BY ALL
)
SELECT * FROM shares JOIN whole USING (trajectory_id)
