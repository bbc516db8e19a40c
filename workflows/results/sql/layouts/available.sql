-- What a table without a layout has columns for: edit quality, general means, perplexities, energy.
SELECT metric, protocol, task, count(*) AS n FROM (
    SELECT metric, protocol, task FROM scores
    WHERE metric IN ('efficacy', 'generalization', 'specificity', 'score', 'general_mean')
       OR ends_with(metric, 'perplexity')
    UNION ALL SELECT metric, protocol, NULL FROM geometry_means WHERE metric = 'he_drift'
)
GROUP BY ALL ORDER BY ALL
