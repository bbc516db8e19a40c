SELECT a.model, a.stream, a.method, a.seed, a.edit, a.written, a.edits, a.age, a.success = 1 AS is_right, a.margin,
       l.installed, l.strength, a.finite,
       s.* EXCLUDE (trajectory_id, edit, edits)
FROM answers AS a JOIN lives AS l USING (trajectory_id, edit)
LEFT JOIN similarity AS s USING (trajectory_id, edit, edits)
ORDER BY a.place, a.edit, a.edits
