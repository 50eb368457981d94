"""Load encoders and run them: attention, sequence layouts, precision."""
