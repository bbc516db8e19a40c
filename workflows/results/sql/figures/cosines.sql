-- Shares of pairs of rows by the bin of their cosine, at the last checkpoint and of the unedited weights, over seeds.
SELECT model, stream, method, site, regexp_extract(protocol, '\[(-?[0-9.]+),', 1)::DOUBLE AS low,
       regexp_extract(protocol, ',(-?[0-9.]+)', 1)::DOUBLE AS high, count(*) AS seeds, avg(value) AS share,
       count(*) FILTER (status = 'collapsed') AS collapsed
FROM points
WHERE evaluator = 'geometry' AND metric = 'row_cosine' AND site IS NOT NULL AND edits = last_edits
GROUP BY model, stream, method, site, low, high
ORDER BY model, stream, site, min(place), low
