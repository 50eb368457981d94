"""General helpers: messages, numbers, safe reads, atomic writes, system errors, terminal."""
