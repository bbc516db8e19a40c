-- The outcome of each edit's probes of one role, averaged inside the record, at the checkpoints of a table.
SELECT p.trajectory_id, p.edit,
       avg(CASE $protocol WHEN 'argmax' THEN p.is_right::INT WHEN 'token' THEN p.correct / p.tokens
                          ELSE p.won::INT END) AS outcome
FROM probes AS p JOIN planned AS t ON p.trajectory_id = t.trajectory_id
WHERE p.role = $role AND p.protocol = 'correct' AND p.edits = coalesce($edits, t.last_edits)
  AND p.steps IS NOT DISTINCT FROM t.last_steps
GROUP BY ALL HAVING outcome IS NOT NULL
ORDER BY p.trajectory_id, p.edit
