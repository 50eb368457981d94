"""bertft: fine-tune BERT-family encoders from one command, exactly and fast."""

__version__ = "0.1.0"
