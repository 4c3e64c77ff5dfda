"""The command line: says what is wrong in one line and how it ended in the exit status; decides nothing
itself.
"""
