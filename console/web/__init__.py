"""What all pages share: who is let in, how pages are made, and the log of changes."""
