-- One row for each trajectory and asked metric at its last checkpoint and after each of $edits; no metric where none is scored.
WITH found AS (
    SELECT trajectory_id, edits, is_last, metric, protocol, task, value, stderr, n, status, higher_is_better, unedited
    FROM scores WHERE list_contains($metrics, metric)
    UNION ALL BY NAME
    SELECT trajectory_id, edits, is_last, metric, protocol, value, n, status, unedited
    FROM geometry_means WHERE list_contains($metrics, metric)
)
SELECT p.place, p.root, p.trajectory_id, p.model, p.dataset, p.stream_order, p.method, p.seed, p.planned_edits, p.state,
       p.collapsed_at,
       f.edits, f.is_last, f.metric, f.protocol, f.task, f.value, f.stderr, f.n, f.status, f.higher_is_better, f.unedited
FROM planned AS p
LEFT JOIN found AS f
  ON f.trajectory_id = p.trajectory_id AND (f.is_last OR list_contains($edits, f.edits))
ORDER BY p.place, f.metric, f.protocol, f.task, f.edits
