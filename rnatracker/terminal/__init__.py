"""What the commands share on the terminal: options, output, progress, tables."""
