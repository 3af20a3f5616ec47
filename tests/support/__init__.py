"""Scripted upstreams, raw clients and whole gateways in memory."""
