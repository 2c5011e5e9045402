text = (RUN / "config.toml").read_text(encoding="utf-8")
print(text.replace(f"{Path.cwd().parent}/", ""))
