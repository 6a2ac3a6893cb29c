"""Sets: scans, joins and sorts over the lake's immutable Parquet files."""
