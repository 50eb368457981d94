"""Write merged models, ONNX graphs and peft adapters, with their model cards."""
