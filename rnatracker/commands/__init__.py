"""The commands, one in each module: their options, and what they print.

A command's body is a call and a print; heavy packages are imported inside it. Read next: `rnatracker/app.py`, which
puts them together.
"""
