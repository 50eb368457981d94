"""Side-by-side measurements with the peers; each module is one command."""
