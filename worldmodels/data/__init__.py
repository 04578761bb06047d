"""What happened, on disk and in batches."""
