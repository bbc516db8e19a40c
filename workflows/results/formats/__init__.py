"""Tables as text: Markdown, CSV, Parquet."""
