"""`python -m sweep`: the command from whichever copy of the code comes first on the path."""

from sweep.cli import main

if __name__ == "__main__":
    main()
