-- A score at the last checkpoint over one or two fields of the specification (y = '' for one), over seeds.
WITH own AS (
    SELECT p.place, p.model, p.stream, p.method, t.composition, t.editor, t.regularizer, p.metric, p.protocol, p.value,
           coalesce(x.number, NULL) AS x_number, x.text AS x_text, y.number AS y_number, y.text AS y_text
    FROM points AS p JOIN trajectories AS t ON p.trajectory_id = t.trajectory_id
    LEFT JOIN fields AS x ON x.trajectory_id = t.trajectory_id AND x.field = $x
    LEFT JOIN fields AS y ON y.trajectory_id = t.trajectory_id AND y.field = $y
    WHERE p.evaluator = 'edit_quality' AND p.site IS NULL AND p.edits = p.last_edits AND p.protocol = $protocol
      AND list_contains($metrics, p.metric)
),
alone AS (
    SELECT model, stream, editor, metric, avg(value) AS base_mean
    FROM own WHERE regularizer IS NULL AND x_text IS NULL GROUP BY ALL
)
SELECT o.model, o.stream, arg_min(o.method, o.place) AS method, o.composition, o.metric, o.protocol,
       $x AS x_field, coalesce(o.x_number::VARCHAR, o.x_text) AS x_name, $y AS y_field, y_text AS y_name,
       o.x_number AS x, o.y_number AS y, any_value(a.base_mean) AS base_mean, count(*) AS seeds,
       CASE WHEN count(o.value) = count(*) THEN avg(o.value) END AS mean,
       CASE WHEN count(o.value) = count(*) THEN stddev_samp(o.value) END AS sd
FROM own AS o LEFT JOIN alone AS a
  ON o.model = a.model AND o.stream = a.stream AND o.editor = a.editor AND o.metric = a.metric
WHERE o.x_text IS NOT NULL AND ($y = '' OR o.y_text IS NOT NULL)
GROUP BY o.model, o.stream, o.composition, o.metric, o.protocol, o.x_number, o.x_text, o.y_number, o.y_text
ORDER BY o.model, o.stream, o.composition, list_position($metrics, o.metric), o.x_number, o.x_text, o.y_number, o.y_text
