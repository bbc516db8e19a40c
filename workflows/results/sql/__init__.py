"""Views of a sweep in DuckDB, and the queries on them as `.sql` files."""
