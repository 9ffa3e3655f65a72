"""nassearch: train one supernet, measure a device once, read off the best network for a budget."""

__version__ = "0.1.0"
