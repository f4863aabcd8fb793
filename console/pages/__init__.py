"""The pages of the console, one file per page or group of pages."""
