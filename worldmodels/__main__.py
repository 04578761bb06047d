"""`python -m worldmodels COMMAND`, for where the command `worldmodels` is not on the path."""

from worldmodels.commands import main

if __name__ == "__main__":
    main()
