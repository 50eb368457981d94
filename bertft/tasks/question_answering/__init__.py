"""Question answering: windows, loss, spans, and the official scorers (which need no torch)."""
