"""What a person asks of launches on a command line: one file a subcommand.

Zone: host. May import: `click`, `rich`, `orchestrator`, the standard library. Only `operating` appends.

- `launches`, `show`, `events`, `follow`, `verify`: what there is.
- `describe`, `diff`, `replay`, `export`, `import_`: what to make of it; `sources` also reads exported files, `fleet`
  says which of many are meant.
- `logs`: what a container wrote, opened and checked.
- `resume`, `fork`, `stop`: an operator's orders, by `operating`.
- `subcommand`: what they share: where the bus is, how faults become exit codes.
- `finding`: which launch is meant. `documents`: what `--json` prints. `drawing`: what a terminal shows.

What is said comes from `orchestrator.story`; here it is laid out.
"""
