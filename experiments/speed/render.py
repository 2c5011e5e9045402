"""The table in BENCHMARKS.md, from what compare.py measured. Between the two markers the script owns the text."""
import inspect
import os
from pathlib import Path

import limits
from rows import rows

BEGIN, END = "<!-- speed: written by experiments/speed/compare.py -->", "<!-- speed: end -->"
NONE = "–"


def write(results, file):
    text = file.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"{file}: put these two lines where the table belongs:\n{BEGIN}\n{END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    whole = Path(f"{file}.part")
    whole.write_text(f"{before}{BEGIN}\n{section(results)}{END}{after}")
    os.replace(whole, file)


def section(results):
    measured = [(gpu, machine) for gpu, machine in results["machines"].items() if machine["rows"]]
    if not measured:
        raise SystemExit("nothing was measured yet")
    parts = [of_machine(gpu, machine, results["counts"]) for gpu, machine in measured]
    if results["tiny"]:
        parts.insert(0, "**A trial of the script: these numbers mean nothing.**\n")
    return "\n".join([*parts, how_limits_are_counted([row for row in rows() if any(
        row.name in machine["rows"] for _, machine in measured)])])


def of_machine(gpu, machine, counts):
    lines = [f"### {gpu}", "", *about(machine), "",
             "| work | Python | compiled | here | over Python / compiled | limit | of the limit | peak memory: Python / here |",
             "|---|---|---|---|---|---|---|---|"]
    commands = []
    for row in rows():
        sides = machine["rows"].get(row.name)
        if sides:
            lines.append(line(row, sides, limits.limit(row, machine["ceilings"], counts)))
            commands += [sides[side].get("command", "") for side in ("toolkit", "peer", "compiled") if side in sides]
    lines += ["", *remarks(machine, counts), "The commands:", "", *(f"    {c}" for c in dict.fromkeys(commands) if c), ""]
    return "\n".join(lines)


def about(machine):
    """Date, versions, and what the GPU reached."""
    rates, versions = machine["ceilings"], machine["versions"]
    names = {"toolkit": "toolkit", "torch": "PyTorch", "transformers": "transformers", "diffusers": "diffusers",
             "driver": "driver"}
    dates = sorted({side["date"] for sides in machine["rows"].values() for side in sides.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    said = ", ".join(f"{title} {versions[name]}" for name, title in names.items() if versions.get(name))
    return [f"{when}; {said}. This GPU reached {rates['matmul_tflops']:.0f} TFLOP/s in products of random bfloat16 matrices,",
            f"{rates['float32_tflops']:.0f} in float32, {rates['attention_tflops']:.0f} in cuDNN's attention over SD3's tokens, "
            f"{rates['copy_tbs']:.2f} TB/s in copies within its memory",
            f"(read and written) and {rates['upload_gbs']:.0f} GB/s from page-locked main memory."]


def line(row, sides, limit):
    value = lambda side: sides[side]["value"] if side in sides else None
    peer, compiled, here = (value(side) for side in ("peer", "compiled", "toolkit"))
    faster = [ratio(row, here, other) for other in (peer, compiled)]
    share = None if here is None else here / limit if row.more_is_better else limit / here
    memory = [gigabytes(sides[side].get("peak_memory_bytes")) if side in sides else NONE for side in ("peer", "toolkit")]
    waited = sides.get("compiled", {}).get("compile_seconds")
    cells = [
        row.title, shown(row, peer), shown(row, compiled) + (f" (after {waited:.0f} s)" if waited else ""),
        bold(shown(row, here)), " / ".join(faster) if compiled is not None else faster[0], shown(row, limit),
        NONE if share is None else f"{100 * share:.0f} %", " / ".join(memory),
    ]
    return f"| {' | '.join(cells)} |"


def ratio(row, here, other):
    """How many times faster."""
    if here is None or other is None:
        return NONE
    return f"{here / other if row.more_is_better else other / here:.1f}"


def remarks(machine, counts):
    """What a table cannot say in a cell."""
    measured, found = machine["rows"], []
    if "sd3-1" in measured:
        attention = limits.sd3_with_attention(machine["ceilings"], counts, 1)
        found.append(f"With attention at the rate of cuDNN's kernel the limit of an SD3 picture is {attention:.2f} s.")
    one = measured.get("artfid", {}).get("peer", {}).get("one_loader_seconds")
    if one:
        found.append(f"art-fid reads with as many loaders as there are cores; with the one of its command line it took {one:.1f} s.")
    start = measured.get("sd3-start", {}).get("peer", {})
    if "import_seconds" in start:
        found.append(f"Of the peer's start {start['import_seconds']:.1f} s are imports and {start['load_seconds']:.1f} s loading.")
    for gib, run in measured.get("sd3-start", {}).get("toolkit", {}).get("limited", {}).items():
        same = "the same to the last byte" if run["same_picture"] else "ANOTHER ONE"
        found.append(f"With `--memory-limit {gib}` (GiB) the picture is {same}: at most "
                     f"{gigabytes(run.get('peak_memory_bytes'))}, {run['process_seconds']:.1f} s.")
    return [*(f"- {remark}" for remark in found), ""] if found else []


def how_limits_are_counted(measured):
    text = inspect.cleandoc(limits.__doc__).replace("\n\n", "\n")
    lines = ["### How the limits are counted", "", text, ""]
    for function in dict.fromkeys(limits.LIMITS[row.name] for row in measured):
        lines.append("- " + inspect.cleandoc(function.__doc__).replace("\n", "\n  "))
    return "\n".join(lines) + "\n"


def shown(row, value):
    if value is None:
        return NONE
    unit = row.figure[1]
    if unit == "ms":
        return f"{1000 * value:.1f} ms"
    if unit == "s":
        return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"
    return f"{value:,.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def gigabytes(count):
    return f"{count / 1e9:.1f} GB" if count else NONE


def bold(text):
    return text if text == NONE else f"**{text}**"
