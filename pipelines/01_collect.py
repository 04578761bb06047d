"""Stage 1: let a policy act, and write what happened."""

from worldmodels.commands import run

if __name__ == "__main__":
    run("collect")
