"""bertft: fine-tune BERT-family encoders from one command, exactly and fast."""

__version__ = "0.2.0"
