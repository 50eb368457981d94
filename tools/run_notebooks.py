"""Execute the notebooks and store them with their outputs.

    python -m tools.run_notebooks                  all of notebooks/*.ipynb
    python -m tools.run_notebooks sentiment        one of them

It needs the extras demo, notebook and test, and fonts with Chinese characters. Each notebook runs
in an empty folder. What differs between two executions is removed from the outputs: the path of the
folder, times and speeds, and the page of a report (its name stays).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["normalize_output", "store", "stored_problems"]

ROOT = Path(__file__).parents[1]
MAX_IMAGE_BYTES = 100_000
MAX_NOTEBOOK_BYTES = 500_000
_ABSOLUTE_PATH = re.compile(r"(?<![\w.<])/(?:root|home|Users|tmp|work|var|mnt|opt)/|[A-Z]:\\\\")
_TIMES = (
    (r", [\d:]+ (?:elapsed|left|total)", ""),  # next to the progress bar
    (r", rows/s [\d,]+", ""),  # in a line of several facts
    (r"<div><small>[^<]* rows/s[^<]*</small></div>", ""),  # the status below it
    (r"^(\d[\d,]* steps) in .*\n", ""),  # the line with time, speed and memory of training
)


def normalize_output(output: dict[str, Any], folder: str) -> None:
    """Remove the paths of ``folder``, times, speeds and pages from ``output``, in place."""
    output.get("metadata", {}).clear()
    if "text" in output:
        output["text"] = _normalize_text(output["text"], folder)
    data = output.get("data", {})
    if data.get("text/html", "").startswith("<iframe"):
        del data["text/html"]
    for kind, value in data.items():
        if isinstance(value, str) and kind.startswith("text/"):
            data[kind] = _normalize_text(value, folder)


def _normalize_text(text: str, folder: str) -> str:
    text = text.replace(f"{folder}/", "")
    for pattern, replacement in _TIMES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text


def stored_problems(notebook: Any) -> list[str]:
    """Why the outputs of ``notebook`` should not be stored; empty if they should."""
    problems = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            text = json.dumps(output, ensure_ascii=False)
            place = f"cell {cell['id']}, {text[:300]}"
            if output["output_type"] == "error":
                problems.append(f"{place}: error")
            if output.get("name") == "stderr" or "Warning" in text:
                problems.append(f"{place}: warning")
            image = output.get("data", {}).get("image/png", "")
            if len(image) * 3 / 4 > MAX_IMAGE_BYTES:
                problems.append(f"{place}: image above {MAX_IMAGE_BYTES:,} bytes")
            without_image = text.replace(image, "") if image else text
            if _ABSOLUTE_PATH.search(without_image):
                problems.append(f"{place}: absolute path")
            if re.search(r"\d+:\d\d (?:left|elapsed|total)|rows/s|tokens/s", without_image):
                problems.append(f"{place}: time or speed")
    if len(json.dumps(notebook)) > MAX_NOTEBOOK_BYTES:
        problems.append(f"above {MAX_NOTEBOOK_BYTES:,} bytes")
    return problems


def store(file: Path) -> None:
    """Execute the notebook ``file`` and write it with its outputs."""
    import nbclient
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    metadata = dict(notebook.metadata)
    with tempfile.TemporaryDirectory() as name:
        folder = str(Path(name).resolve())
        resources = {"metadata": {"path": folder}}
        nbclient.NotebookClient(notebook, timeout=3600, resources=resources).execute()
        for cell in notebook.cells:
            cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
            for output in cell.get("outputs", []):
                normalize_output(output, folder)
    notebook.metadata = {
        "kernelspec": metadata["kernelspec"],
        "language_info": {"name": "python"},
    }
    if problems := stored_problems(notebook):
        sys.exit("\n".join([f"{file.name} was not written:", *problems]))
    text = json.dumps(_split_lines(notebook), indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def _split_lines(notebook: Any) -> Any:
    """The notebook with texts as lists of lines, the format of files."""
    import nbformat

    return json.loads(nbformat.writes(notebook, version=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="names of notebooks; default: all")
    names = parser.parse_args().names
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.getenv("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Without ipywidgets (extra notebook), tqdm warns when it is imported.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    os.environ.pop("MPLBACKEND", None)  # that of the kernel shows figures
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not names or file.stem in names:
            store(file)
            print(f"{file.name}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
