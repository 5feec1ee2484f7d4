"""Where a study's workers run: in processes of this command, or as jobs of a cluster."""
