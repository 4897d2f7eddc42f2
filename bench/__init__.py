"""Side-by-side measurements against peers; each script prints one table and writes one JSON file."""
