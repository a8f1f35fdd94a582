"""Scores and reports of `kvmerger eval`: reads the folder that a run left behind, runs no model."""
