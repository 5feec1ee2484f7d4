"""What goes wrong while a study is worked on, and how that is told or mended."""
