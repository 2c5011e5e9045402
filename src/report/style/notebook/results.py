show(results[["strategy", "style_text"] + NUMBERS], index=False)
