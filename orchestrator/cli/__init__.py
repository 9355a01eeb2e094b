"""What a person asks of launches on a command line: one file a subcommand.

Zone: host. May import: `click`, `rich`, `orchestrator`, the standard library. Reads only; nothing here appends.

- `launches`, `show`, `events`, `follow`, `verify`: the subcommands.
- `subcommand`: what they share: where the bus is, how faults become exit codes.
- `finding`: which launch is meant. `documents`: what `--json` prints. `drawing`: what a terminal shows.

What is said comes from `orchestrator.story`; here it is laid out.
"""
