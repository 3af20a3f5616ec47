"""Where clients come in: the listener, our HTTP/1.1 lane, and the door to Hypercorn."""
