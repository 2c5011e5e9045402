show(results, index=False)
