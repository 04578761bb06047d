"""Stage 3: learn to expect."""

from worldmodels.commands import run

if __name__ == "__main__":
    run("train-memory")
