-- Accuracy by relation at the last checkpoint of every trajectory, over seeds: the mean of efficacy and generalization, each
-- an average over edits. $measure: argmax (every token of the target is the argmax) or probability (likelier than the
-- contrast). Relations of fewer than $least edits are left out, of the others the $most largest are kept. A trajectory has
-- no number where an answer is not finite, or more than half of a relation's answers tie.
WITH answered AS (
    SELECT t.place, t.model, t.stream, t.method, t.seed, e.relation, e.prompt, p.edit, p.role, bool_and(p.finite) AS finite,
           count(*) AS probes, count(*) FILTER (p.tied) AS ties,
           avg(CASE $measure WHEN 'argmax' THEN p.is_right ELSE p.won END::INT) AS success
    FROM probes AS p JOIN trajectories AS t USING (trajectory_id) JOIN edits AS e USING (trajectory_id, edit)
    WHERE p.edits = t.last_edits AND p.steps IS NULL AND p.protocol = $protocol AND e.relation IS NOT NULL
      AND p.role IN ('rewrite', 'paraphrase')
    GROUP BY ALL
),
halves AS (
    SELECT place, model, stream, method, seed, relation, role, avg(success) AS success, bool_and(finite) AS finite,
           count(*) AS edits, sum(probes) AS probes, sum(ties) AS ties, min(prompt) AS example
    FROM answered GROUP BY ALL
),
lives AS (
    SELECT place, model, stream, method, seed, relation, max(edits) AS edits, min(example) AS example,
           CASE WHEN bool_and(finite) AND 2 * sum(ties) <= sum(probes) THEN avg(success) END AS value
    FROM halves GROUP BY ALL HAVING max(edits) >= $least
),
sizes AS (
    SELECT model, stream, relation, min(example) AS example,
           row_number() OVER (PARTITION BY model, stream ORDER BY sum(edits) DESC, relation) AS rank
    FROM lives GROUP BY model, stream, relation
)
SELECT model, stream, method, relation, any_value(sizes.example) AS example, count(*) AS seeds, avg(edits) AS edits,
       count(*) FILTER (value IS NULL) AS collapsed,
       CASE WHEN count(value) = count(*) THEN avg(value) END AS mean,
       CASE WHEN count(value) = count(*) THEN stddev_samp(value) END AS sd,
       min(value) AS smallest, max(value) AS largest
FROM lives JOIN sizes USING (model, stream, relation)
WHERE rank <= $most
GROUP BY model, stream, method, relation
ORDER BY model, stream, min(rank), min(place)
