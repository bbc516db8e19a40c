-- Wilson's interval of a share p of n at 95 % (Wilson, JASA 22, 1927).
CREATE MACRO wilson_mid(p, n) AS (p + 1.959964^2 / (2 * n)) / (1 + 1.959964^2 / n);
CREATE MACRO wilson_half(p, n) AS
    1.959964 / (1 + 1.959964^2 / n) * sqrt(p * (1 - p) / n + 1.959964^2 / (4 * n^2));
CREATE MACRO low(p, n) AS CASE WHEN p * n IS NOT NULL THEN greatest(0, wilson_mid(p, n) - wilson_half(p, n)) END;
CREATE MACRO high(p, n) AS CASE WHEN p * n IS NOT NULL THEN least(1, wilson_mid(p, n) + wilson_half(p, n)) END;
