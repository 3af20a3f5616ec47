"""What runs beside the request path: health checks, the watch over the config file, saved state."""
