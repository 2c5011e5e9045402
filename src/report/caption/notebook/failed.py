show(items.loc[items.status != "done", ["id", "dataset", "model", "error"]], index=False)
