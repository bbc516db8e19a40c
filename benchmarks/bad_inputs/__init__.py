"""Inputs that must be refused in one screen, with place and remedy and nothing written."""
