"""The seed document, sentence by sentence: see README.md beside this file."""
