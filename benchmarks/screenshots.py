"""README's pictures of the terminal and of the report, made from a real run.

    python -m benchmarks.screenshots --data <folder>

The folder contains ``train.tsv`` of SST-2. Complete sentences of it become ``reviews.csv``, on
which ``bertft train reviews.csv`` is run in a terminal of 88 columns. The files in docs/images are:

    terminal-light.svg, terminal-dark.svg   what the terminal shows at the end of the run
    report-light.png, report-dark.png       the top of report.html, drawn by Chromium

The path of the temporary folder is removed from the texts. Nothing else is changed.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from benchmarks.picture import ROOT

__all__ = ["final_screen", "main", "terminal_svg", "write_reviews"]

COLUMNS = 88
ROWS = 2400
COMMAND = ("bertft", "train", "reviews.csv", "hydra.run.dir=outputs/reviews")
REPORT_SIZE = (1000, 1110)  # pixels
PNG_COLOURS = 64
# background, text, border, and the eight colours of a terminal
THEMES = {
    "light": (
        "#ffffff",
        "#1f2328",
        "#d0d7de",
        ("#1f2328", "#cf222e", "#1a7f37", "#9a6700", "#0969da", "#8250df", "#1b7c83", "#6e7781"),
    ),
    "dark": (
        "#0d1117",
        "#e6edf3",
        "#30363d",
        ("#484f58", "#ff7b72", "#3fb950", "#d29922", "#58a6ff", "#bc8cff", "#39c5cf", "#b1bac4"),
    ),
}


def write_reviews(sst2: Path, file: Path) -> None:
    """Write ``ROWS`` complete sentences of SST-2, with the names of their classes."""
    rows: dict[str, str] = {}
    with (sst2 / "train.tsv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            sentence = row["sentence"].strip()
            if sentence.endswith(" .") and len(sentence.split()) >= 8 and len(rows) < ROWS:
                rows[sentence] = ("negative", "positive")[int(row["label"])]
    with file.open("w", encoding="utf-8", newline="") as output:
        csv.writer(output).writerows([("text", "label"), *rows.items()])


def run_in_terminal(command: tuple[str, ...], folder: Path) -> str:
    """The bytes that ``command`` writes to a terminal of ``COLUMNS`` columns, as text."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", COLUMNS=str(COLUMNS))
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    output = b""
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # the process closed the terminal
            break
        if not data:
            break
        output += data
    if status := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
        sys.exit(f"{' '.join(command)} ended with status {status}:\n{output.decode()[-2000:]}")
    return output.decode()


def final_screen(output: str) -> list[str]:
    """The lines of a terminal after ``output``, with their colour codes.

    Of the codes that move the cursor, those that rich and the status line use are supported: to the
    start of the line, to the previous line, and "erase the line".
    """
    lines, row = [""], 0
    for item in re.split(r"(\r?\n|\r|\x1b\[\d*[AK]|\x1b\[\?\d+[hl])", output):
        if item in ("\n", "\r\n"):
            row += 1
            lines += [""] * (row == len(lines))
        elif item.startswith("\x1b[") and item.endswith("K"):
            lines[row] = ""
        elif move := re.fullmatch(r"\x1b\[(\d*)A", item):
            row -= int(move[1] or 1)
        elif item != "\r" and not re.fullmatch(r"\x1b\[\?\d+[hl]", item):
            lines[row] += item
    return lines


def terminal_svg(lines: list[str], title: str, theme: str) -> str:
    """``lines`` as a window of a terminal. The font is that of the reader: no file is loaded."""
    from rich.color import parse_rgb_hex
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    background, text, border, colours = THEMES[theme]
    normal: list[tuple[int, int, int]] = [parse_rgb_hex(colour[1:]) for colour in colours]
    terminal_theme = TerminalTheme(
        parse_rgb_hex(background[1:]), parse_rgb_hex(text[1:]), normal, normal
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title=title, theme=terminal_theme, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("rgba(255,255,255,0.35)", border)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def draw_report(report: Path, theme: str, file: Path) -> None:
    """Draw the top of the page in one theme, as a PNG with few colours.

    Chromium has no option for the theme, so the condition of the dark colours is replaced.
    """
    from PIL import Image

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("The pictures of the report need chromium or google-chrome.")
    condition = {"light": "not all", "dark": "all"}[theme]
    page = report.with_name(f"report-{theme}.html")
    text = report.read_text(encoding="utf-8")
    page.write_text(text.replace("(prefers-color-scheme: dark)", condition), encoding="utf-8")
    width, height = REPORT_SIZE
    arguments = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--window-size={width},{height}", f"--screenshot={file}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run([browser, *arguments], check=True, capture_output=True, timeout=120)
    image = Image.open(file).convert("RGB").quantize(PNG_COLOURS)
    image.save(file, optimize=True)


def draw_pictures(sst2: Path, folder: Path) -> None:
    """Train in ``folder`` and write the pictures."""
    images = ROOT / "docs" / "images"
    write_reviews(sst2, folder / "reviews.csv")
    output = run_in_terminal(COMMAND, folder).replace(f"{folder}/", "")
    lines = final_screen(output)
    for theme in THEMES:
        svg = terminal_svg(lines, "bertft train reviews.csv", theme)
        (images / f"terminal-{theme}.svg").write_text(svg, encoding="utf-8")
        report = folder / "outputs" / "reviews" / "report.html"
        draw_report(report, theme, images / f"report-{theme}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv of SST-2")
    parser.add_argument("--folder", type=Path, help="folder that keeps the run; default: temporary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        draw_pictures(arguments.data.resolve(), folder)


if __name__ == "__main__":
    main()
