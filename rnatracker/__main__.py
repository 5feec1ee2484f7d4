"""Start the command line as `python -m rnatracker`."""

from rnatracker.app import app

if __name__ == "__main__":
    app(prog_name="rnatracker")
