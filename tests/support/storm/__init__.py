"""Storms: a whole gateway in virtual time among random clients, backends, reloads and cancellations.

A seed decides everything, so what a storm finds can be played again. `weather.storm` plays one.
"""
