"""What a person gets at the end of a run: a table in the terminal and the files of a run folder."""
