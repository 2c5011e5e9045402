TEXT = ["id", "strategy", "caption", "prompt", "dropped", "status", "error", "remark", "image", "photo"]
PHOTO = ["photo_luma", "photo_sharpness", "face_share"]
items = read("items.csv", TEXT, ["seed", "lpips", "style_distance", "gallery_score"] + PHOTO)
both = (items.status != "failed") & items.lpips.notna() & items.style_distance.notna()
if (items.gallery_score.isna() & (items.status != "failed") & items.style_distance.notna()).any():
    parts = items.loc[both, ["lpips", "style_distance"]]
    spread = parts.std(ddof=0).replace(0, float("inf"))  # values that are all alike tell nothing apart
    items["gallery_score"] = ((parts - parts.mean()) / spread).sum(axis=1)
NUMBERS = ["n", "artfid", "artfid_low", "artfid_high", "fid", "lpips", "seconds_per_image"]
INTERVALS = ["fid_low", "fid_high", "lpips_low", "lpips_high"]
results = read("results.csv", ["strategy", "style_text"], NUMBERS + INTERVALS + ["strength"]).sort_values("artfid", kind="stable")
