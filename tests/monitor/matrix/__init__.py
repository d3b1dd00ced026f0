"""The confusion matrix of detection: connections of real programs, what is left of them after mishaps, and the truth.

`scenarios` and `lookalikes` say what happens on the wire and what it truly is, `recording` records it, `derivations`
makes cases of each connection, `truth` says what may be said of a case, `confusion` has the monitor say it.
"""
