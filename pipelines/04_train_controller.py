"""Stage 4: evolve a controller, in the real environment or in dreams."""

from worldmodels.commands import run

if __name__ == "__main__":
    run("train-controller")
