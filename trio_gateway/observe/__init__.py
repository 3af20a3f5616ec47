"""What operators see: metrics, state changes, the access log and the log."""
