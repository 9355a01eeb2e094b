"""One module a page: what it asks of the index or of a history, and which template tells it.

Zone: host. May import: `starlette`, `orchestrator`, `orchestrator.console`.

A page's handler takes a request and returns a page; it changes nothing. `told` gives a launch with its history for the
two pages about one launch.
"""
