"""What leaves a run folder: merged models, ONNX graphs, PEFT adapters and their model cards."""
