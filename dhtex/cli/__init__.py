"""The command line: parse, call the node, render. It decides nothing about orders.

app       the border: exit codes, errors in one line        root, lazy   all commands, built when named
session   options for all, JSON or text                     drafts       words and JSON to what the node takes
node, order, publish, bulk, trade, book, market, copies     the commands
text, render, ladder, figures, coverage                     answers as lines for people (pure)
progress  the moving line of a terminal                     reference    docs/CLI.md
"""
