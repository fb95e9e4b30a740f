"""``python -m tokensim`` is the command ``tokensim``."""

from tokensim.cli import main

if __name__ == "__main__":
    main()
