manifest = json.loads((RUN / "manifest.json").read_text(encoding="utf-8"))
if isinstance(manifest.get("started"), int):
    manifest["started"] = f"{pd.Timestamp(manifest['started'], unit='s'):%Y-%m-%d %H:%M} UTC"
plain = [(key, str(value)) for key, value in manifest.items() if not isinstance(value, (list, dict))]
show(pd.DataFrame(plain, columns=["key", "value"]), index=False)
