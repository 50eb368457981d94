"""What masked language modelling is made of: texts, their tokens, and which are hidden."""
