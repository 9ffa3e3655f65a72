"""Latency: measured tables, calibrated prediction, honest estimates."""
