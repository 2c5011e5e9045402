import io
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Image, display

RUN = Path(@RUN@)  # the run folder, seen from this notebook's folder
COLORS = @COLORS@
WIDE = ["caption", "prompt", "dropped", "style_text", "error"]
pd.set_option("display.max_colwidth", None)


def inside(file):
    """The file of the run that a table names; none where it is gone or lies elsewhere."""
    path = (RUN / file).resolve()
    return path if file and path.is_file() and path.is_relative_to(RUN.resolve()) else None


def read(name, text, numbers):
    """These columns of a CSV file of the run; empty where the file lacks one."""
    empty = {column: ["", "NaN"] for column in numbers}
    table = pd.read_csv(RUN / name, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=empty)
    return table.reindex(columns=text + numbers).fillna(dict.fromkeys(text, ""))


def picture(figure, alt):
    """Shows a figure, with words for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    plt.close(figure)
    display(Image(file.getvalue(), format="png", alt=alt))


def show(table, **options):
    wide = {column: 240 for column in WIDE if column in table}  # texts that would be squeezed
    return HTML(table.to_html(float_format="{:.3f}".format, na_rep="–", col_space=wide, **options))
