show(results.drop(columns=@ENDS@), index=False)
