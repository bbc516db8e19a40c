-- Mean probability over seeds of the targets of some cases, by method and number of checkpoints since writing.
WITH steps AS (
    SELECT a.*, e.case_id, row_number() OVER (PARTITION BY a.trajectory_id, a.edit ORDER BY a.edits) - 1 AS step
    FROM answered AS a JOIN edits AS e USING (trajectory_id, edit)
    WHERE list_contains($cases, e.case_id) AND a.edits >= a.written
)
SELECT model, stream, case_id, method, step, avg(probability) FILTER (finite) AS probability, count(*) AS trajectories
FROM steps GROUP BY model, stream, case_id, method, step
HAVING count(*) FILTER (NOT finite) = 0
ORDER BY model, stream, case_id, min(place), step
