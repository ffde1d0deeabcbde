"""A substitute for the directory of a tenant behind Microsoft Graph, for tests of the registration scripts.

The directory is a JSON file that a test writes and reads, so that it survives the processes of a script:

- `applications`: as Microsoft Graph represents them, with the additional members `owners` and `federated`;
- `servicePrincipals`: in the same way, with the additional member `assignments`;
- `requests`: every request that was received, as `METHOD path`;
- `bodies`: the bodies of these requests, in the same order;
- `host`: the host that received them;
- `appears`: an application that another user creates immediately before the next one that is created;
- `replication`: the number of requests for which a new object is not visible;
- `denied`: the beginnings of requests, as in `requests`, that are answered with 403;
- `lost`: the beginnings of requests that are carried out, but whose response is lost.

A request that the directory does not know is answered with 404 and remains in `requests`.
"""

import copy
import json
import re
import urllib.parse
import uuid

GRAPH = "00000003-0000-0000-c000-000000000000"
ROLES = [
    {"id": "bf394140-e372-4bf9-a898-299cfc7564e5", "value": "SecurityEvents.Read.All", "isEnabled": True},
    {"id": "9e3f62cf-ca93-4989-b6ce-bf83c28f9fe8", "value": "RoleManagement.ReadWrite.Directory", "isEnabled": True},
]
ME = {"id": "eeeeeeee-0000-4000-8000-000000000001", "userPrincipalName": "admin@contoso.example"}


class Lost(Exception):
    """The response to a request is lost."""


class Rejected(Exception):
    """Microsoft Graph answers with an error."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status = status
        self.body = {"error": {"code": code, "message": message}}


class Directory:
    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.state = json.load(file)
        for member in ("applications", "servicePrincipals", "requests", "bodies", "denied", "lost"):
            self.state.setdefault(member, [])
        if not any(found["appId"] == GRAPH for found in self.principals):
            self.principals.append({"id": "99999999-0000-4000-8000-000000000003", "appId": GRAPH, "appRoles": ROLES})

    @property
    def applications(self):
        return self.state["applications"]

    @property
    def principals(self):
        return self.state["servicePrincipals"]

    def request(self, method, url, body=None):
        """Returns the status and the body of the response to a request."""
        parts = urllib.parse.urlsplit(url)
        path = parts.path.removeprefix("/v1.0/")
        line = f"{method} {path}"
        self.state["host"] = parts.netloc
        self.state["requests"].append(line)
        self.state["bodies"].append(copy.deepcopy(body))
        try:
            if any(line.startswith(denied) for denied in self.state["denied"]):
                raise Rejected(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
            answer = self.handle(method, path, dict(urllib.parse.parse_qsl(parts.query)), body)
            if any(line.startswith(lost) for lost in self.state["lost"]):
                raise Lost
            return (204, None) if answer is None else (201 if method == "POST" else 200, answer)
        except Rejected as rejected:
            return rejected.status, rejected.body
        finally:
            for one in self.applications + self.principals:
                if "hidden" in one:
                    one["hidden"] -= 1
                    if one["hidden"] == 0:
                        del one["hidden"]
            with open(self.path, "w", encoding="utf-8") as file:
                json.dump(self.state, file, indent=1)

    def handle(self, method, path, query, body):
        # `applications(appId='ID')` is another address of `applications/OBJECT_ID`.
        parts = re.sub(r"\((appId='[^']*')\)", r"/\1", path).split("/")
        collection = {"applications": self.applications, "servicePrincipals": self.principals}.get(parts[0])
        match (method, parts):
            case ("GET", ["me"]):
                return ME
            case ("GET", ["applications" | "servicePrincipals"]):
                return {"value": [shown(one, query, keys=False) for one in filtered(collection, query["$filter"])]}
            case ("GET", ["applications" | "servicePrincipals", _]):
                return shown(self.one(collection, parts[1]), query, keys=True)
            case ("GET", ["applications" | "servicePrincipals", _, "owners"]):
                return {"value": self.one(collection, parts[1]).get("owners", [])}
            case ("GET", ["applications", _, "federatedIdentityCredentials"]):
                return {"value": self.one(collection, parts[1]).get("federated", [])}
            case ("GET", ["servicePrincipals", _, "appRoleAssignments"]):
                return {"value": self.one(collection, parts[1]).get("assignments", [])}
            case ("POST", ["applications"]):
                return self.create_application(body)
            case ("POST", ["servicePrincipals"]):
                return self.create_principal(body)
            case ("POST", ["servicePrincipals", _, "appRoleAssignedTo"]):
                return self.assign(self.one(collection, parts[1]), body)
            case ("POST", ["servicePrincipals", _, "appRoleAssignments"]):
                return self.assign(self.one(collection, body["resourceId"]), {**body, "principalId": parts[1]})
            case ("POST", ["applications", _, "addPassword"]):
                self.one(collection, parts[1])["passwordCredentials"].append({"keyId": str(uuid.uuid4())})
                return {"secretText": "secret-of-the-application"}
            case ("DELETE", ["applications", _]):
                collection.remove(self.one(collection, parts[1]))
                return None
        raise Rejected(404, "Request_ResourceNotFound", f"Resource '{path}' does not exist.")

    def one(self, collection, identifier):
        for found in collection:
            if identifier in (found["id"], f"appId='{found['appId']}'") and not found.get("hidden"):
                return found
        raise Rejected(404, "Request_ResourceNotFound", f"Resource '{identifier}' does not exist.")

    def create_application(self, body):
        if appears := self.state.pop("appears", None):
            self.applications.append(appears)
        new = {"id": str(uuid.uuid4()), "appId": str(uuid.uuid4()), "passwordCredentials": [], "owners": [ME], **body}
        for key in new["keyCredentials"]:
            key["keyId"] = str(uuid.uuid4())
        self.applications.append({**new, "hidden": self.state.get("replication", 0) + 1})
        return shown(new, {}, keys=False)

    def create_principal(self, body):
        if not any(found["appId"] == body["appId"] and not found.get("hidden") for found in self.applications):
            raise Rejected(400, "Request_BadRequest", "The appId of the service principal does not reference a valid application object.")
        if any(found["appId"] == body["appId"] for found in self.principals):
            raise Rejected(409, "Request_MultipleObjectsWithSameKeyValue", "The service principal name is already in use.")
        new = {"id": str(uuid.uuid4()), **body, "keyCredentials": [], "passwordCredentials": [], "assignments": []}
        self.principals.append({**new, "hidden": self.state.get("replication", 0) + 1})
        return new

    def assign(self, resource, body):
        if resource["id"] != body["resourceId"] or not any(role["id"] == body["appRoleId"] for role in resource["appRoles"]):
            raise Rejected(400, "Request_BadRequest", "Permission being assigned was not found on application.")
        principal = self.one(self.principals, body["principalId"])
        if body in principal.setdefault("assignments", []):
            raise Rejected(400, "Request_BadRequest", "Permission being assigned already exists on the object.")
        principal["assignments"].append(body)
        return body


def filtered(collection, expression):
    """The visible objects of a collection that a filter selects. Microsoft Graph compares names without regard to case."""
    member, value = re.fullmatch(r"(displayName|appId) eq '([^']*)'", expression).groups()
    return [one for one in collection if not one.get("hidden") and one.get(member, "").lower() == value.lower()]


def shown(one, query, keys):
    """The members of an object that a request selects. Only a request for a single object returns certificates."""
    members = query["$select"].split(",") if "$select" in query else [name for name in one if name not in ("owners", "federated", "assignments", "hidden")]
    found = {name: one.get(name) for name in members}
    if not keys and found.get("keyCredentials"):
        found["keyCredentials"] = [{**key, "key": None} for key in found["keyCredentials"]]
    return found
