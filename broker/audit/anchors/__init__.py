"""Places elsewhere that are given every checkpoint, so that the log cannot go back behind them."""
