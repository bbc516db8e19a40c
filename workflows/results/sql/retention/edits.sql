SELECT model, stream, method, seed, edit, c.case_id, written, installed_at, installed, strength, first_lost,
       last_right, kept, final_margin, finite,
       s.* EXCLUDE (trajectory_id, edit, edits)
FROM lives AS l JOIN trajectories USING (trajectory_id) LEFT JOIN edits AS c USING (trajectory_id, edit)
LEFT JOIN similarity AS s ON s.trajectory_id = l.trajectory_id AND s.edit = l.edit AND s.edits = l.last_checkpoint
ORDER BY place, l.edit
