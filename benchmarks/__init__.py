"""What `make bench` measures: ours beside the obvious code and beside a limit, in one run."""
