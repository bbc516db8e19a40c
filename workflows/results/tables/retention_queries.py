"""What `sphere retention` asks of the stored probes: one query a table, in DuckDB's SQL.

`PROBES` is the Parquet files of the sweep's scored probes, `trajectories` the plan: both are made by
`workflows.results.tables.retention`. `answers` has one row per edit and checkpoint that asked it, `lives` one row per
edit.
"""

from collections.abc import Sequence

__all__ = ["ANSWERS", "LIVES", "MACROS", "MEASURES", "QUERIES", "table_query"]

# What a probe's answer is worth under each measure; both are 0 or 1.
MEASURES = {"argmax": "(correct = tokens)::INT", "probability": "won::INT"}

# Wilson's interval of a share p of n at 95 % (Wilson, JASA 22, 1927).
MACROS = """
CREATE MACRO wilson_mid(p, n) AS (p + 1.959964^2 / (2 * n)) / (1 + 1.959964^2 / n);
CREATE MACRO wilson_half(p, n) AS
    1.959964 / (1 + 1.959964^2 / n) * sqrt(p * (1 - p) / n + 1.959964^2 / (4 * n^2));
CREATE MACRO low(p, n) AS CASE WHEN p * n IS NOT NULL THEN greatest(0, wilson_mid(p, n) - wilson_half(p, n)) END;
CREATE MACRO high(p, n) AS CASE WHEN p * n IS NOT NULL THEN least(1, wilson_mid(p, n) + wilson_half(p, n)) END;
"""

# An edit is written with its batch; its age counts the edits written after that batch. `finite` is what the rows of a
# checkpoint go by too: no answer is a number that is none, nor do more than half of the checkpoint's answers tie.
ANSWERS = """
CREATE TABLE answers AS
WITH asked AS (
    SELECT t.*, p.edits, p.edit,
           least(ceil(p.edit / t.batch_size)::INT * t.batch_size, t.planned) AS written,
           p.edits - written AS age,
           avg({worth}) AS success,
           avg(p.contrast_nll_mean - p.nll_mean) AS margin,
           bool_and(p.finite AND coalesce(p.contrast_finite, true)) AS finite,
           count(*) AS probes, count(*) FILTER (p.tied) AS ties
    FROM ({probes}) AS p JOIN trajectories AS t USING (trajectory_id)
    WHERE p.role = '{role}' AND p.protocol = '{protocol}' AND ({worth}) IS NOT NULL
    GROUP BY ALL
)
SELECT * EXCLUDE (probes, ties) REPLACE (finite AND 2 * sum(ties) OVER here <= sum(probes) OVER here AS finite)
FROM asked WINDOW here AS (PARTITION BY trajectory_id, edits)
"""

# Immediate: at the first checkpoint that stands at or after the edit's batch. Final: at the trajectory's last one. An
# edit that a later one contradicts is asked no more and has no final answer; one left out of a sample has a gap.
LIVES = """
CREATE TABLE lives AS
WITH checkpoints AS (SELECT DISTINCT trajectory_id, edits FROM answers),
ends AS (SELECT trajectory_id, max(edits) AS last FROM checkpoints GROUP BY ALL),
installs AS (
    SELECT w.trajectory_id, w.written, min(c.edits) AS installed_at
    FROM (SELECT DISTINCT trajectory_id, written FROM answers) AS w
    JOIN checkpoints AS c ON c.trajectory_id = w.trajectory_id AND c.edits >= w.written
    GROUP BY ALL
),
told AS (
    SELECT a.*, i.installed_at, e.last, a.success = 1 AS is_right,
           max(a.edits) FILTER (a.success = 1) OVER (PARTITION BY a.trajectory_id, a.edit) AS last_right
    FROM answers AS a JOIN installs AS i USING (trajectory_id, written) JOIN ends AS e USING (trajectory_id)
)
SELECT trajectory_id, edit, any_value(written) AS written, any_value(installed_at) AS installed_at,
       any_value(last) AS last_checkpoint,
       bool_or(is_right) FILTER (edits = installed_at) AS installed,
       max(margin) FILTER (edits = installed_at) AS strength,
       bool_or(is_right) FILTER (edits = last) AS kept,
       max(margin) FILTER (edits = last) AS final_margin,
       CASE WHEN installed THEN min(edits) FILTER (NOT is_right AND edits > installed_at) END AS first_lost,
       any_value(last_right) AS last_right,
       bool_and(finite) AS finite
FROM told GROUP BY trajectory_id, edit
"""

_CURVE = """
WITH seeds AS (
    SELECT place, model, stream, method, trajectory_id, edits, avg(success) AS share, avg(margin) AS margin,
           count(*)::INT AS n, bool_and(finite) AS finite
    FROM answers GROUP BY ALL
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, count(*) AS seeds, sum(n)::INT AS n,
           CASE WHEN bool_and(finite) THEN sum(share * n) / sum(n) END AS rate,
           CASE WHEN bool_and(finite) THEN stddev_samp(share) END AS sd_over_seeds,
           CASE WHEN bool_and(finite) THEN avg(margin) END AS margin,
           count(*) FILTER (NOT finite) AS collapsed
    FROM seeds GROUP BY model, stream, method, edits
)
SELECT model, stream, method, edits, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high, sd_over_seeds,
       margin, collapsed
FROM pooled ORDER BY place, edits
"""

_COHORTS = """
WITH cohorts AS (
    SELECT *, 'all' AS cohort FROM answers
    UNION ALL SELECT *, 'first ' || $cohort FROM answers WHERE edit <= $cohort
    UNION ALL SELECT *, 'latest ' || $cohort FROM answers WHERE edit > edits - $cohort
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, cohort, count(DISTINCT seed) AS seeds,
           count(*)::INT AS n, CASE WHEN bool_and(finite) THEN avg(success) END AS rate
    FROM cohorts GROUP BY model, stream, method, edits, cohort
)
SELECT model, stream, method, edits, cohort, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high
FROM pooled ORDER BY place, edits, cohort
"""

_AGES = """
WITH binned AS (SELECT *, ($batches * batch_size)::INT AS width, (age // width * width)::INT AS age_from FROM answers),
pooled AS (
    SELECT min(place) AS place, model, stream, method, edits, age_from, age_from + width - 1 AS age_to,
           count(DISTINCT seed) AS seeds, count(*)::INT AS n,
           CASE WHEN bool_and(finite) THEN avg(success) END AS rate
    FROM binned GROUP BY model, stream, method, edits, age_from, width
)
SELECT model, stream, method, edits, age_from, age_to, seeds, n, rate, low(rate, n) AS low, high(rate, n) AS high
FROM pooled ORDER BY place, edits, age_from
"""

# A cohort is what was written between two checkpoints; its curve is the share still right at each checkpoint since.
# The area is divided by the span, so that 1 is an edit never lost; a cohort seen once has none.
_AREAS = """
WITH curves AS (
    SELECT a.trajectory_id, l.installed_at AS cohort, a.edits, avg(a.success) AS rate, count(*)::INT AS n,
           bool_and(a.finite) AS finite
    FROM answers AS a JOIN lives AS l USING (trajectory_id, edit) GROUP BY ALL
),
steps AS (
    SELECT *, lead(edits) OVER w - edits AS span, (rate + lead(rate) OVER w) / 2 * span AS area
    FROM curves WINDOW w AS (PARTITION BY trajectory_id, cohort ORDER BY edits)
),
areas AS (
    SELECT trajectory_id, cohort, max(n) AS n,
           CASE WHEN arg_min(finite, edits) THEN arg_min(rate, edits) END AS immediate,
           CASE WHEN bool_and(finite) THEN arg_max(rate, edits) END AS final,
           CASE WHEN bool_and(finite) THEN sum(area) / sum(span) END AS auc
    FROM steps GROUP BY ALL
)
"""

_AUC = (
    _AREAS
    + """
SELECT model, stream, method, cohort, count(*) AS seeds, sum(n)::INT AS n,
       CASE WHEN count(immediate) = count(*) THEN avg(immediate) END AS immediate,
       CASE WHEN count(final) = count(*) THEN avg(final) END AS final,
       CASE WHEN count(final) = count(*) THEN avg(auc) END AS auc,
       CASE WHEN count(final) = count(*) THEN stddev_samp(auc) END AS auc_sd
FROM areas JOIN trajectories USING (trajectory_id) GROUP BY model, stream, method, cohort
ORDER BY min(place), cohort
"""
)

# Shares are of all seeds' edits, with Wilson's interval; `monotone`: of the edits lost, those never right again. A
# trajectory that has collapsed takes away the numbers of its line; `collapsed` counts them.
_ENDS = (
    _AREAS
    + """,
whole AS (
    SELECT trajectory_id, CASE WHEN count(final) = count(*) THEN avg(auc) END AS auc FROM areas GROUP BY ALL
),
ends AS (
    SELECT trajectory_id, any_value(last_checkpoint) AS edits, avg(installed::INT) AS immediate,
           avg(kept::INT) AS final, count(kept) AS n,
           count(*) FILTER (installed AND kept IS NOT NULL) AS installed,
           count(*) FILTER (installed AND NOT kept) AS lost,
           count(*) FILTER (first_lost IS NOT NULL) AS ever_lost,
           count(*) FILTER (last_right < first_lost) AS never_back,
           bool_and(finite) AS finite
    FROM lives GROUP BY ALL
)
"""
)

_SUMMARY = (
    _ENDS
    + """
SELECT model, stream, method, count(*) AS seeds,
       CASE WHEN bool_and(finite) THEN avg(immediate) END AS immediate,
       CASE WHEN bool_and(finite) THEN avg(final) END AS final,
       CASE WHEN bool_and(finite) THEN stddev_samp(final) END AS final_sd,
       CASE WHEN bool_and(finite) THEN sum(lost) / sum(installed) END AS forgotten,
       low(sum(lost) / sum(installed), CASE WHEN bool_and(finite) THEN sum(installed) END) AS low,
       high(sum(lost) / sum(installed), CASE WHEN bool_and(finite) THEN sum(installed) END) AS high,
       CASE WHEN bool_and(finite) THEN sum(never_back) / nullif(sum(ever_lost), 0) END AS monotone,
       CASE WHEN bool_and(finite) THEN avg(auc) END AS auc,
       CASE WHEN bool_and(finite) THEN stddev_samp(auc) END AS auc_sd,
       count(*) FILTER (NOT finite) AS collapsed
FROM ends JOIN whole USING (trajectory_id) JOIN trajectories USING (trajectory_id)
GROUP BY model, stream, method ORDER BY min(place)
"""
)

_ORDER = (
    _ENDS
    + """
SELECT model, dataset, edits, method, "order", count(*) AS seeds,
       CASE WHEN bool_and(finite) THEN avg(immediate) END AS immediate,
       CASE WHEN bool_and(finite) THEN avg(final) END AS final,
       CASE WHEN bool_and(finite) THEN stddev_samp(final) END AS final_sd,
       low(sum(final * n) / sum(n), CASE WHEN bool_and(finite) THEN sum(n) END) AS low,
       high(sum(final * n) / sum(n), CASE WHEN bool_and(finite) THEN sum(n) END) AS high,
       CASE WHEN bool_and(finite) THEN avg(auc) END AS auc, count(*) FILTER (NOT finite) AS collapsed
FROM ends JOIN whole USING (trajectory_id) JOIN trajectories USING (trajectory_id)
GROUP BY model, dataset, edits, method, "order" ORDER BY model, dataset, min(place), "order"
"""
)

_SURVIVAL = """
SELECT a.model, a.stream, a.method, a.seed, a.edit, a.written, a.edits, a.age, a.success = 1 AS is_right, a.margin,
       l.installed, l.strength, a.finite{similarity}
FROM answers AS a JOIN lives AS l USING (trajectory_id, edit)
LEFT JOIN similarity AS s USING (trajectory_id, edit, edits)
ORDER BY a.place, a.edit, a.edits
"""

_EDITS = """
SELECT model, stream, method, seed, edit, c.case_id, written, installed_at, installed, strength, first_lost,
       last_right, kept, final_margin, finite{similarity}
FROM lives AS l JOIN trajectories USING (trajectory_id) LEFT JOIN cases AS c USING (trajectory_id, edit)
LEFT JOIN similarity AS s ON s.trajectory_id = l.trajectory_id AND s.edit = l.edit AND s.edits = l.last_checkpoint
ORDER BY place, l.edit
"""

# Spearman's correlation of what was known of an edit with its being lost, among the edits that took: ranks within a
# trajectory, ties at their mean rank. `given_age` holds the place in the stream fixed (partial correlation): early
# edits have both more time to be lost and more later keys. Trajectories are pooled by Fisher's z, weighted by n - 3;
# the interval has Bonett and Wright's variance, (1 + r^2 / 2) / (n - 3) (Psychometrika 65, 2000).
_PREDICTORS = """
WITH known AS (
    SELECT l.trajectory_id, l.strength, l.written{similarity}, (NOT l.kept)::DOUBLE AS lost
    FROM lives AS l
    LEFT JOIN similarity AS s ON s.trajectory_id = l.trajectory_id AND s.edit = l.edit AND s.edits = l.last_checkpoint
    WHERE l.installed AND l.kept IS NOT NULL AND l.finite
),
pairs AS (
{pairs}
),
ranked AS (
    SELECT trajectory_id, predictor,
           rank() OVER (w ORDER BY x) + (count(*) OVER (PARTITION BY trajectory_id, predictor, x) - 1) / 2 AS rx,
           rank() OVER (w ORDER BY y) + (count(*) OVER (PARTITION BY trajectory_id, predictor, y) - 1) / 2 AS ry,
           rank() OVER (w ORDER BY z) + (count(*) OVER (PARTITION BY trajectory_id, predictor, z) - 1) / 2 AS rz
    FROM pairs WHERE x IS NOT NULL WINDOW w AS (PARTITION BY trajectory_id, predictor)
),
rhos AS (
    SELECT trajectory_id, predictor, count(*)::INT AS n,
           CASE WHEN stddev_pop(rx) > 0 AND stddev_pop(ry) > 0 THEN corr(rx, ry) END AS xy,
           CASE WHEN stddev_pop(rx) > 0 AND stddev_pop(rz) > 0 THEN corr(rx, rz) END AS xz,
           CASE WHEN stddev_pop(ry) > 0 AND stddev_pop(rz) > 0 THEN corr(ry, rz) END AS yz
    FROM ranked GROUP BY ALL HAVING n > 3
),
partial AS (
    SELECT *, CASE WHEN xz^2 < 1 - 1e-9 AND yz^2 < 1 - 1e-9
                   THEN (xy - xz * yz) / sqrt((1 - xz^2) * (1 - yz^2)) END AS given
    FROM rhos WHERE xy IS NOT NULL
),
pooled AS (
    SELECT min(place) AS place, model, stream, method, predictor, count(*) AS seeds, sum(n)::INT AS n,
           sum(n - 3) AS weight,
           sum((n - 3) * atanh(least(greatest(xy, -0.999999), 0.999999))) / weight AS z,
           sum((n - 3) * atanh(least(greatest(given, -0.999999), 0.999999)))
               / sum(n - 3) FILTER (given IS NOT NULL) AS given_z
    FROM partial JOIN trajectories USING (trajectory_id) GROUP BY model, stream, method, predictor
)
SELECT model, stream, method, predictor, seeds, n, tanh(z) AS spearman,
       tanh(z - 1.959964 * sqrt((1 + tanh(z)^2 / 2) / weight)) AS low,
       tanh(z + 1.959964 * sqrt((1 + tanh(z)^2 / 2) / weight)) AS high, tanh(given_z) AS given_age
FROM pooled ORDER BY place, predictor
"""

QUERIES = {
    "summary": _SUMMARY,
    "curve": _CURVE,
    "cohorts": _COHORTS,
    "ages": _AGES,
    "auc": _AUC,
    "order": _ORDER,
    "edits": _EDITS,
    "predictors": _PREDICTORS,
    "survival": _SURVIVAL,
}


def table_query(name: str, similarity: Sequence[str]) -> str:
    """Return the query of a table, with the columns of key similarity where keys are kept."""
    query = QUERIES[name]
    columns = "".join(f', s."{column}"' for column in similarity)
    predictors = ["strength", "written", *similarity]
    pairs = [
        f"SELECT trajectory_id, '{name}' AS predictor, \"{name}\"::DOUBLE AS x, lost AS y, written AS z FROM known"
        for name in predictors
    ]
    return query.replace("{similarity}", columns).replace("{pairs}", "\nUNION ALL\n".join(pairs))
