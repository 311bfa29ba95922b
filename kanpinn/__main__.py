"""`python -m kanpinn` is the command `kanpinn`."""

from kanpinn.cli.main import script

if __name__ == "__main__":
    script()
