"""Runs exported notebooks and compares what they give with the outputs that are stored in them.

    pip install -r tests/notebook_python/requirements.txt
    python tests/reference/notebook.py notebooks-export/*.ipynb

Tables and printed text must be the same to the letter; of pictures it is asked that both have one, and the same
words for those who do not see it.
"""

import copy
import sys
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor


def seen(output):
    """What of an output must be the same."""
    if output.output_type == "stream":
        return output.name, output.text
    data = output.get("data", {})
    is_picture = any(kind.startswith("image/") for kind in data)
    if is_picture:
        (words,) = {about.get("alt") for about in output.metadata.values()}
        return output.output_type, "picture", words
    return output.output_type, data.get("text/html")


def check(path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert (stored.nbformat, stored.nbformat_minor) == (4, 5), f"{path}: nbformat {stored.nbformat_minor}"
    run = copy.deepcopy(stored)
    for cell in run.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    ExecutePreprocessor(timeout=600, startup_timeout=600).preprocess(run, {"metadata": {"path": str(path.parent)}})
    count = 0
    for old, new in zip(stored.cells, run.cells):
        if old.cell_type != "code":
            continue
        # What libraries say on stderr is theirs.
        outputs = [output for output in new.outputs if output.get("name") != "stderr"]
        a, b = [seen(output) for output in old.outputs], [seen(output) for output in outputs]
        assert a == b, f"{path}: cell {old.id} stores\n{a}\nand gives\n{b}"
        assert old.execution_count == new.execution_count, f"{path}: cell {old.id} is counted otherwise"
        count += len(a)
    print(f"{path}: {len(stored.cells)} cells, {count} outputs agree")


for name in sys.argv[1:]:
    check(Path(name).absolute())
