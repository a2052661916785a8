"""Forecasts of what a link will carry: pure numpy, times passed in."""
