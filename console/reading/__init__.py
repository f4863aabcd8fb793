"""What the pages show: the snapshot and its sales, the nights, the photos."""
