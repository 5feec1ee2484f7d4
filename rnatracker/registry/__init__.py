"""Registered models: versions, the champion, promotion, serving."""
