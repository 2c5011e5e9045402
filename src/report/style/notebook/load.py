TEXT = ["id", "strategy", "caption", "prompt", "dropped", "status", "error", "remark", "image", "photo"]
PHOTO = ["photo_luma", "photo_sharpness", "face_share"]
items = read("items.csv", TEXT, @ITEMS@ + PHOTO)
both = (items.status != "failed") & items.lpips.notna() & items.style_distance.notna()
if (items.gallery_score.isna() & (items.status != "failed") & items.style_distance.notna()).any():
    parts = items.loc[both, ["lpips", "style_distance"]]
    spread = parts.std(ddof=0).replace(0, float("inf"))  # values that are all alike tell nothing apart
    items["gallery_score"] = ((parts - parts.mean()) / spread).sum(axis=1)
NUMBERS = @NUMBERS@
INTERVALS = @INTERVALS@
results = read("results.csv", ["strategy", "style_text"], NUMBERS + INTERVALS + ["strength"]).sort_values("@DECIDING@", kind="stable")
