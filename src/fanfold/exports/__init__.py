"""A run as other programs and people read it: a trace, lines of JSON, a page.

Everything here is made of a run's events, and of the receipt that comes of them, after the fact: nothing of it can
influence a run. `fanfold runs export` writes each of them to a file; `fanfold.otel` is the one that also follows a run
while it goes on.
"""
