-- Rows of general ability, in the order of their files.
SELECT trajectory_id, edits, evaluation_id, task, metric, n, value, ci_low, ci_high, status, nonfinite, tied
FROM rows
WHERE evaluator = 'general' AND ($task IS NULL OR task = $task)
