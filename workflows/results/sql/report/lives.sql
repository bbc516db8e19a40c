-- The history of the edits whose prompt holds a text, or whose case or place in the stream is named.
SELECT a.model, a.stream, a.method, a.seed, a.edit, e.case_id, e.prompt, e.target, e.contrast, a.written, a.edits,
       CASE WHEN a.finite THEN a.is_right END AS is_right, CASE WHEN a.finite THEN a.probability END AS probability,
       CASE WHEN a.finite THEN a.contrast_probability END AS contrast_probability
FROM answered AS a JOIN edits AS e USING (trajectory_id, edit)
WHERE ($subject = '' OR contains(lower(e.prompt), lower($subject))) AND ($case = '' OR e.case_id = $case)
  AND ($edit = 0 OR a.edit = $edit) AND ($method = '' OR a.method = $method)
ORDER BY a.place, a.edit, a.edits
