"""The command line's groups of commands, each beside what it commands.

A command's body is a call and a print; heavy packages are imported inside it. Read next: `cli.py` at the
top of the repository, which mounts them.
"""
