"""A substitute for the Azure CLI, signed in to the directory of `directory.py` in the file `$DIRECTORY`.

It knows only the commands that the registration script needs. The file lists every other command in `commands`, and
the command fails.
"""

import json
import os
import sys

import jmespath

from directory import Directory, Lost

REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
CLOUDS = {"AzureCloud": ["https://graph.microsoft.com"], "AzureUSGovernment": ["https://graph.microsoft.us", "https://dod-graph.microsoft.us"]}


def options(arguments):
    """The options of `az rest`; fails for an option that the substitute does not know."""
    found = {"--method": "get", "--query": "@", "--output": "json"}
    arguments = list(arguments)
    while arguments:
        option = arguments.pop(0)
        if option == "--only-show-errors":
            continue
        if option not in ("--method", "--url", "--resource", "--headers", "--body", "--query", "--output"):
            sys.exit(f"ERROR: unrecognized arguments: {option}")
        found[option] = arguments.pop(0)
    return found


def print_tsv(result):
    """Prints a result as `--output tsv` of the Azure CLI does."""
    def text(value):
        if isinstance(value, list):
            return str(len(value))
        return "" if isinstance(value, dict) else str(value).lower() if isinstance(value, bool) else str(value)

    if result is None:
        return
    for row in result if isinstance(result, list) else [result]:
        print("\t".join(map(text, row)) if isinstance(row, list) else text(row))


def main(arguments):
    directory = Directory(os.environ["DIRECTORY"])
    cloud = directory.state.get("cloud", "AzureCloud")
    if arguments == ["account", "show", "--query", "tenantId", "--output", "tsv"]:
        return print("3f5c1d2e-0000-4000-8000-00000000c0de")
    if arguments == ["cloud", "show", "--query", "name", "--output", "tsv"]:
        return print(cloud)
    if arguments[:1] != ["rest"]:
        directory.state.setdefault("commands", []).append(" ".join(arguments))
        with open(directory.path, "w", encoding="utf-8") as file:
            json.dump(directory.state, file)
        sys.exit("ERROR: the command is not a part of the substitute")

    found = options(arguments[1:])
    origin = next((known for known in CLOUDS[cloud] if found["--url"].startswith(f"{known}/v1.0/")), None)
    if origin is None or found.get("--resource", f"{origin}/") != f"{origin}/":
        sys.exit(f"ERROR: no token for {found['--url']}")
    body = json.loads(found["--body"]) if "--body" in found else None
    try:
        status, response = directory.request(found["--method"].upper(), found["--url"], body)
    except Lost:
        sys.exit("ERROR: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))")
    if status >= 400:
        sys.exit(f"ERROR: {REASONS[status]}({json.dumps(response)})")
    if response is not None:
        result = jmespath.search(found["--query"], response)
        print_tsv(result) if found["--output"] == "tsv" else print(json.dumps(result))


main(sys.argv[1:])
