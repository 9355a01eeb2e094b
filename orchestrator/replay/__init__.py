"""Replay: a recorded history looked at again, at another moment, beside another one, or under other rules.

Zone: any; a person's machine needs neither bus, network nor root. May import: `orchestrator` but for its bus, console
and command line, the standard library. No I/O: histories are values here, and files are bytes.

- `at`: what a launch was after its Nth fact, or at a time.
- `decision`: what the fold decided at each message. `diverge`: where today's code decides otherwise.
- `compare`: why one launch failed and another did not.
- `whatif`: the recorded evidence before another policy.
- `bundle`: a history as one file that carries itself to another machine; `redaction`: with some contents taken out.
- `query`: which launches of a fleet are meant.

Nothing here changes a launch. What does (resume, fork) is a fact that an operator signs: `orchestrator.operation`.
"""
