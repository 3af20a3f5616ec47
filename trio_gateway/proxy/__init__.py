"""The request path: from a parsed head to the last byte of the reply."""
