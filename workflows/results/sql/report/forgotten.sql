-- The edits that most trajectories learned and lost again: right at the first checkpoint after writing, wrong at the last.
WITH ends AS (
    SELECT a.trajectory_id, a.edit, arg_min(a.is_right, a.edits) AS learned, arg_max(a.is_right, a.edits) AS kept,
           arg_max(a.probability, a.edits) AS probability
    FROM answered AS a WHERE a.finite AND a.edits >= a.written GROUP BY ALL
)
SELECT t.model, t.stream, e.case_id, any_value(e.prompt) AS prompt, any_value(e.target) AS target,
       any_value(e.contrast) AS contrast, count(*) AS trajectories, count(*) FILTER (learned) AS learned,
       count(*) FILTER (learned AND NOT kept) AS lost, avg(ends.probability) AS probability
FROM ends JOIN trajectories AS t USING (trajectory_id) JOIN edits AS e USING (trajectory_id, edit)
GROUP BY t.model, t.stream, e.case_id
HAVING lost > 0
ORDER BY lost / trajectories DESC, lost DESC, probability, t.model, t.stream, e.case_id
LIMIT $top
