"""Stage 2: learn to see, then write down what is seen in every frame."""

from worldmodels.commands import run

if __name__ == "__main__":
    run("train-vision")
