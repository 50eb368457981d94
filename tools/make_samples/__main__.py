from pathlib import Path

from tools.make_samples import write_samples

write_samples(Path(__file__).parents[2] / "bertft" / "samples")
