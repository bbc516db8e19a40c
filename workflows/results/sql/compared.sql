-- Every score and every mean figure of geometry at every checkpoint.
SELECT trajectory_id, model, dataset, stream_order, method, seed, edits, metric, protocol, task, value, status
FROM scores
UNION ALL BY NAME
SELECT trajectory_id, model, dataset, stream_order, method, seed, edits, metric, protocol, NULL::VARCHAR AS task, value,
       status
FROM geometry_means
ORDER BY model, dataset, stream_order, method, seed, edits, metric, protocol, task
