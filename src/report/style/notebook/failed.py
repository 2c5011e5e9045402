show(items.loc[items.status == "failed", ["id", "strategy", "error"]], index=False)
