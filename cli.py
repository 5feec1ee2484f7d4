"""Start the command line from a checkout: `python cli.py --help`. Installed, it is `rnatracker`."""

from rnatracker.app import app

if __name__ == "__main__":
    app()
