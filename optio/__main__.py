"""`python -m optio`."""

from optio.cli import main

if __name__ == "__main__":
    main()
