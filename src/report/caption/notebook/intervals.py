show(results[@WITH_INTERVALS@], index=False)
