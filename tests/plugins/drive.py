"""Run command lines in this process: a JSON list of them on stdin, the output of each on stdout."""

import contextlib
import io
import json
import sys

from bertft.cli.app import main

results = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    results.append({"status": status, "out": out.getvalue(), "err": err.getvalue()})
json.dump(results, sys.stdout)
