"""The console: web pages on which one sees every launch, read from the bus and written nowhere.

Zone: host. It shows digests, evidence and diagnoses; no key or plaintext is in any fact. May import: `orchestrator`,
`starlette`, `uvicorn`, `jinja2`, `click`, `structlog`, the standard library; `oidc` also `authlib`, `httpx2` and
`joserfc`.

- `index`: a row for every launch, folded from the stream and kept up to date; `query`, `tally`: what one asks of it.
- `site`: what every page needs. `pages/`: one module a page, one template each in `templates/`.
- `ledger`: the audit log, read where it lies.
- `timeline`: the geometry of the drawings; the templates turn it into SVG. `wording`: numbers and times as text.
- `live`: news to browsers, as server-sent events.
- `sessions`, `gate`, `oidc`: who may enter. `headers`: what browsers are told not to do.
- `app`: the routes. `command`: `enclave-cc console`.

Every page is whole without JavaScript; `static/console.js` only fetches the same page again when there is news, and
moves a selection by keys. Nothing here changes a launch: every route is a GET but login and logout, and `roles` says
where a page that does more would ask for it.
"""
