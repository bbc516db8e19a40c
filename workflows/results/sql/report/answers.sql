-- One row for each edit and checkpoint that scored it: whether the whole target was right and how probable it and the
-- contrast were (products over tokens), each the mean over its probes of a role.
-- Fine-tunings are left out.
SELECT t.place, t.model, t.stream, t.method, t.seed, t.trajectory_id, p.edit, p.edits,
       least(ceil(p.edit / t.batch_size)::INT * t.batch_size, t.planned_edits) AS written,
       avg((p.correct = p.tokens)::INT) = 1 AS is_right,
       avg(exp(-p.nll_mean * p.tokens)) AS probability,
       avg(exp(-p.contrast_nll_mean * p.contrast_tokens)) AS contrast_probability,
       bool_and(p.finite) AS finite
FROM probes AS p JOIN trajectories AS t ON p.trajectory_id = t.trajectory_id
WHERE p.role = $role AND p.protocol = $protocol AND p.steps IS NULL
GROUP BY ALL
