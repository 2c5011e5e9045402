TEXT = ["id", "strategy", "caption", "prompt", "dropped", "status", "error", "remark", "image", "photo"]
items = read("items.csv", TEXT, ["seed", "lpips", "style_distance"])
NUMBERS = ["n", "artfid", "artfid_low", "artfid_high", "fid", "lpips", "seconds_per_image"]
results = read("results.csv", ["strategy", "style_text"], NUMBERS).sort_values("artfid", kind="stable")
