measured = read("@FILE@", ["@TEXT@"], @COLUMNS@)@FILTER@[@COLUMNS@]
show(measured.corr(method="spearman", min_periods=5).rename_axis("metric").reset_index(), index=False)
