"""Decides, never waits: pure policies that are told the time. No Trio, no sockets, no clocks here."""
