"""Runs a PowerShell script against the directory of `directory.py`: powershell.py SCRIPT [-PARAMETER [VALUE]]...

PowerShell is not in any package registry that the tests use, so this program interprets the part of the language that
`deploy/register-app.ps1` needs, as strict mode defines it. It fails for every construct, command, parameter, member
and combination of types that it does not know, so a script is either run as written here or not at all. Source:
"PowerShell language specification 3.0" and the reference of each command; the requests are sent with a substitute for
the module Microsoft.Graph.Authentication.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import types

import tree_sitter_powershell
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tree_sitter import Language, Parser

from directory import Directory, Lost

VOID = type("Void", (), {"__repr__": lambda _: "VOID"})()  # the output of a command without output


class Exit(Exception):
    pass


class Return(Exception):
    pass


class ScriptError(Exception):
    """An error that the script can catch."""


def unsupported(node, what=""):
    raise NotImplementedError(f"line {node.start_point[0] + 1}: {node.type} {what}: {node.text.decode()[:80]}")


def is_null(value):
    return value is None or value is VOID


def truth(value):
    if isinstance(value, list):
        return truth(value[0]) if len(value) == 1 else bool(value)
    return True if isinstance(value, dict) else not is_null(value) and bool(value)


def text(value):
    if is_null(value):
        return ""
    if isinstance(value, list):
        return " ".join(map(text, value))
    if isinstance(value, (str, int)):
        return str(value)
    raise NotImplementedError(f"text of {type(value)}")


def collapse(outputs):
    return VOID if not outputs else outputs[0] if len(outputs) == 1 else outputs


def emitted(value):
    """What a pipeline passes on if an expression has this value."""
    return list(value) if isinstance(value, list) else [] if value is VOID else [value]


def pattern(expression):
    """A regular expression of .NET, which is not case-sensitive by default in PowerShell."""
    return re.compile(expression.replace(r"\z", r"\Z").replace(r"\p{Cc}", r"\x00-\x1f\x7f-\x9f"), re.IGNORECASE)


class Interpreter:
    def __init__(self, source, directory):
        self.source = source
        self.directory = directory
        self.environment = None
        self.functions = {}
        self.scopes = [{"true": True, "false": False, "null": None, "iswindows": False, "islinux": True, "lastexitcode": 0}]

    # Variables

    def get(self, node):
        name = node.text.decode().lstrip("$@").strip("{}").lower()
        scopes = self.scopes
        if name.startswith("script:"):
            name, scopes = name.removeprefix("script:"), self.scopes[:1]
        for scope in reversed(scopes):
            if name in scope:
                return scope[name]
        unsupported(node, "is not set")

    def set(self, node, value):
        if node.type == "variable":
            name = node.text.decode().lstrip("$").lower()
            scope = self.scopes[0] if name.startswith("script:") else self.scopes[-1]
            scope[name.removeprefix("script:")] = value
        elif node.type == "element_access":
            target, _, index, _ = node.children
            self.value(target)[self.value(index)] = value
        else:
            unsupported(node, "cannot be assigned")

    # Statements. Each appends its output to `out`.

    def run(self, node, out):
        handler = getattr(self, f"run_{node.type}", None) or unsupported(node)
        handler(node, out)

    def run_statement_list(self, node, out):
        for child in node.named_children:
            self.run(child, out)

    run_statement_block = run_script_block_body = run_statement_list

    def run_comment(self, node, out):
        pass

    run_empty_statement = run_comment

    def run_function_statement(self, node, out):
        name = next(child for child in node.children if child.type == "function_name").text.decode()
        self.functions[name.lower()] = node

    def run_if_statement(self, node, out):
        branches = [node]
        for clauses in node.children:
            if clauses.type == "elseif_clauses":
                branches += clauses.named_children
        for branch in branches:
            if truth(self.collapsed(branch.child_by_field_name("condition"))):
                return self.run(next(c for c in branch.children if c.type == "statement_block"), out)
        for clause in node.children:
            if clause.type == "else_clause":
                self.run(clause.named_children[0], out)

    def run_foreach_statement(self, node, out):
        variable, items, block = [c for c in node.named_children if c.type != "comment"]
        for item in [] if is_null(found := self.collapsed(items)) else emitted(found):
            self.set(variable, item)
            self.run(block, out)

    def run_try_statement(self, node, out):
        try:
            self.run(node.named_children[0], out)
        except ScriptError as error:
            exception = types.SimpleNamespace(Message=str(error))
            self.scopes[-1]["_"] = types.SimpleNamespace(Exception=exception)
            clause = node.named_children[1].named_children[0]
            self.run(clause.named_children[0], out)

    def run_flow_control_statement(self, node, out):
        keyword = node.children[0].type
        if keyword == "exit":
            raise Exit(self.collapsed(node.named_children[0]))
        if keyword != "return":
            unsupported(node)
        if node.named_children:
            out += self.outputs(node.named_children[0])
        raise Return

    def run_pipeline(self, node, out):
        out += self.outputs(node)

    # Pipelines

    def expression_of(self, node):
        """The expression if a pipeline consists of one, and not of commands."""
        while node.type in ("pipeline", "pipeline_chain"):
            if len(node.children) != 1:
                return None
            node = node.children[0]
        return None if node.type in ("command", "assignment_expression") else node

    def outputs(self, node):
        if node.type != "pipeline" or len(node.children) != 1:
            unsupported(node)
        only = node.children[0]
        if only.type == "assignment_expression":
            self.assign(only)
            return []
        elements = [c for c in only.children if c.type != "|"]
        if only.type != "pipeline_chain":
            unsupported(only)
        flowing = None
        for element in elements:
            if element.type == "command":
                flowing = self.command(element, flowing)
            elif flowing is None:
                flowing = emitted(self.value(element))
            else:
                unsupported(element)
        return flowing

    def collapsed(self, node):
        """The value of a pipeline, as in an assignment: that of an expression is not enumerated."""
        if (expression := self.expression_of(node)) is not None and expression.type in ("if_statement", "foreach_statement"):
            out = []
            self.run(expression, out)
            return collapse(out)
        if expression is not None:
            return self.value(expression)
        return collapse(self.outputs(node))

    def assign(self, node):
        target, operator, value = [c for c in node.children if c.type != "comment"]
        target, value = self.inner(target), self.collapsed(value)
        if operator.text == b"+=":
            value = self.add(node, self.get(target), value)
        elif operator.text != b"=":
            unsupported(node)
        self.set(target, value)

    def add(self, node, left, right):
        if isinstance(left, list):
            return left + emitted(right)
        if isinstance(left, str) or type(left) is type(right) is int:
            return left + (text(right) if isinstance(left, str) else right)
        unsupported(node, f"{type(left)} + {type(right)}")

    # Expressions

    def inner(self, node):
        """The operation inside the nodes of the grammar for each level of precedence."""
        while len(node.children) == 1 and (node.type.endswith("_expression") or node.type in ("command_name_expr", "expression_with_unary_operator")):
            node = node.children[0]
        return node

    def value(self, node):
        node = self.inner(node)
        handler = getattr(self, f"value_{node.type}", None) or unsupported(node)
        return handler(node)

    def value_variable(self, node):
        return self.get(node)

    def value_integer_literal(self, node):
        return int(node.text)

    def value_real_literal(self, node):
        return node.text.decode()

    def value_expression_with_unary_operator(self, node):
        operator, operand = node.children if len(node.children) == 2 else unsupported(node)
        if operator.text == b"-not":
            return not truth(self.value(operand))
        if operator.text == b"-":
            return -self.value(operand)
        unsupported(node)

    def value_logical_expression(self, node):
        left, operator, right = node.children
        left = truth(self.value(left))
        if operator.text not in (b"-and", b"-or"):
            unsupported(node)
        return left if left == (operator.text == b"-or") else truth(self.value(right))

    def value_additive_expression(self, node):
        left, operator, right = node.children
        if operator.text != b"+":
            unsupported(node)
        return self.add(node, self.value(left), self.value(right))

    def value_array_literal_expression(self, node):
        return [self.value(child) for child in node.named_children]

    def value_comparison_expression(self, node):
        left, operator, right = node.children
        left, operator, right = self.value(left), operator.text.decode(), self.value(right)
        if operator == "-replace":
            return pattern(right[0]).sub(right[1].replace("\\", r"\\"), text(left))
        if operator == "-split":
            return pattern(right).split(left)
        if operator == "-join":
            return right.join(map(text, emitted(left)))
        if operator == "-in":
            return any(self.equal(node, left, one) for one in right)
        if operator in ("-eq", "-ne"):
            folded = [one.lower() if isinstance(one, str) else one for one in (left, right)]
            return self.equal(node, *folded) == (operator == "-eq")
        if operator in ("-ceq", "-cne"):
            return self.equal(node, left, right) == (operator == "-ceq")
        if operator in ("-gt", "-ge", "-lt") and type(left) is type(right) is int:
            return {"-gt": left > right, "-ge": left >= right, "-lt": left < right}[operator]
        unsupported(node, f"{type(left)} {operator} {type(right)}")

    def equal(self, node, left, right):
        if is_null(left) or is_null(right):
            # A list on the left side would be filtered.
            return False if isinstance(left, list) and unsupported(node) else is_null(left) and is_null(right)
        if type(left) is not type(right) or isinstance(left, (list, dict)):
            unsupported(node, f"{type(left)} and {type(right)}")
        return left == right

    def value_parenthesized_expression(self, node):
        return self.collapsed(node.named_children[0])

    def value_array_expression(self, node):
        out = []
        self.run_statement_list(node, out)
        return out

    def value_sub_expression(self, node):
        return collapse(self.value_array_expression(node))

    def value_script_block_expression(self, node):
        body = next(c for c in node.named_children if c.type == "script_block").named_children
        return body[0].named_children[0]

    def value_hash_literal_expression(self, node):
        table = {}
        for body in node.named_children:
            for entry in body.named_children:
                if entry.type != "comment":
                    key, value = [c for c in entry.named_children if c.type != "empty_statement"]
                    key = self.inner(key)
                    key = key.text.decode() if key.type == "simple_name" else self.value(key)
                    table[key] = self.collapsed(value)
        return table

    def value_string_literal(self, node):
        return self.string(node.children[0])

    def string(self, node):
        raw = node.text.decode()
        if node.type == "verbatim_string_characters":
            return raw[1:-1].replace("''", "'")
        if node.type == "expandable_string_literal":
            start, end = node.start_byte + 1, node.end_byte - 1
        elif node.type == "expandable_here_string_literal":
            start, end = node.start_byte + 3, node.end_byte - 3
        else:
            unsupported(node)
        parts, at = [], start
        for child in node.named_children:
            parts += [self.unescaped(self.source[at : child.start_byte]), text(self.value(child))]
            at = child.end_byte
        parts.append(self.unescaped(self.source[at:end]))
        return "".join(parts)

    def unescaped(self, raw):
        known = {"`n": "\n", "``": "`", "`$": "$", '""': '"'}
        return re.sub(r'`.|""', lambda found: known[found[0]], raw.decode())

    def value_cast_expression(self, node):
        kind, operand = node.named_children
        if kind.text != b"[int]":
            unsupported(node)
        return int(self.value(operand))

    def value_element_access(self, node):
        target, _, index, _ = node.children
        target, index = self.value(target), self.value(index)
        if isinstance(target, dict):
            return {key.lower(): value for key, value in target.items()}.get(index.lower())
        if isinstance(target, list) and isinstance(index, int) and -len(target) <= index < len(target):
            return target[index]
        unsupported(node, f"{type(target)} has no {index}")

    def value_member_access(self, node):
        target, separator, member = node.children
        name = member.text.decode()
        if separator.text == b"::":
            return self.static(node, target.text.decode(), name)
        target = self.value(target)
        if isinstance(target, list) and name == "Count":
            return len(target)
        if isinstance(target, types.SimpleNamespace) and hasattr(target, name):
            return getattr(target, name)
        unsupported(node, f"of {type(target)}")

    def value_invokation_expression(self, node):
        target, separator, member, arguments = node.children
        arguments = [self.value(one) for child in arguments.named_children for one in child.named_children]
        name = member.text.decode()
        if separator.text == b"::":
            found = self.static(node, target.text.decode(), name)
        else:
            target = self.value(target)
            methods = {"ToLowerInvariant": lambda: target.lower()} if isinstance(target, str) else {}
            found = methods.get(name) or getattr(target, name, None) or unsupported(node)
        result = found(*arguments)
        return VOID if result is None else result

    def static(self, node, kind, name):
        kind = kind.strip("[]").removeprefix("System.").removeprefix("Security.Cryptography.")
        return STATIC.get((kind, name)) or unsupported(node)

    # Commands

    def command(self, node, flowing):
        operator = next((c for c in node.children if c.type == "command_invokation_operator"), None)
        name = node.child_by_field_name("command_name")
        if operator is not None:
            block = self.get(self.inner(name).named_children[0]) if operator.text == b"&" else unsupported(node)
            return self.invoke(block, {})
        name = name.text.decode()
        elements = next((c.children for c in node.children if c.type == "command_elements"), [])
        positional, named = self.arguments(node, name, [e for e in elements if e.type != "command_argument_sep"])
        if name.lower() in self.functions:
            return self.call(node, name, positional, named, flowing)
        handler = getattr(self, "command_" + name.replace("-", "_").lower(), None) or unsupported(node)
        return handler(node, positional, named, flowing)

    SWITCHES = {"listavailable", "nowelcome", "raw", "nonewline", "force"}

    def arguments(self, node, name, elements):
        positional, named = [], {}
        elements = list(elements)
        while elements:
            element = self.inner(elements.pop(0))
            if element.type == "command_parameter":
                parameter = element.text.decode()[1:].lower()
                named[parameter] = True if parameter in self.SWITCHES else self.argument(elements.pop(0))
            elif element.type == "variable" and element.text.startswith(b"@"):
                named |= {key.lower(): value for key, value in self.get(element).items()}
            else:
                positional.append(self.argument(element))
        return positional, named

    def argument(self, node):
        return node.text.decode() if node.type == "generic_token" else self.value(node)

    def call(self, node, name, positional, named, flowing):
        function = self.functions[name.lower()]
        declaration = next((c for c in function.children if c.type == "function_parameter_declaration"), None)
        scope = {}
        if declaration is not None:
            scope = self.bound(node, declaration.named_children[0], positional, named)
        elif positional or named:
            unsupported(node, "has no parameters")
        if flowing is not None:
            unsupported(node, "reads no input")
        block = next(c for c in function.children if c.type == "script_block")
        return self.invoke(block, scope)

    def invoke(self, block, scope):
        out = []
        self.scopes.append(scope)
        try:
            self.run_statement_list(block, out)
        except Return:
            pass
        finally:
            self.scopes.pop()
        return out

    def bound(self, node, declarations, positional, named):
        """The parameters with their values, which their attributes convert and validate. Defaults are not validated."""
        scope, positional, named = {}, list(positional), dict(named)
        for declaration in declarations.named_children:
            if declaration.type == "comment":
                continue
            name = next(c for c in declaration.children if c.type == "variable").text.decode()[1:].lower()
            default = next((c for c in declaration.children if c.type == "script_parameter_default"), None)
            attributes = next(c for c in declaration.children if c.type == "attribute_list").named_children
            if name in named:
                given, value = True, named.pop(name)
            elif positional:
                given, value = True, positional.pop(0)
            else:
                given, value = False, None if default is None else self.value(default.named_children[0])
            for attribute in attributes:
                value = self.attributed(attribute, name, value, given)
            scope[name] = value
        if positional or named:
            unsupported(node, f"has no parameter for {positional} {named}")
        return scope

    def attributed(self, attribute, name, value, given):
        kind = attribute.text.decode()
        conversions = {"[string]": text, "[switch]": truth, "[int]": int, "[hashtable]": lambda v: v, "[array]": emitted, "[scriptblock]": lambda v: v}
        if kind in conversions:
            if kind == "[hashtable]" and not (is_null(value) or isinstance(value, dict)):
                unsupported(attribute, "is not a hash table")
            return conversions[kind](value)
        arguments = [self.value(one.named_children[0]) for c in attribute.children if c.type == "attribute_arguments" for one in c.named_children]
        checks = {
            "[ValidatePattern(": lambda: pattern(arguments[0]).search(value),
            "[ValidateSet(": lambda: value.lower() in [one.lower() for one in arguments],
            "[ValidateRange(": lambda: arguments[0] <= int(value) <= arguments[1],
        }
        check = checks.get(kind.split("(")[0] + "(") or unsupported(attribute)
        if given and not check():
            raise ScriptError(f"Cannot validate argument on parameter '{name}'.")
        return value

    def script(self, root, arguments):
        named, arguments = {}, list(arguments)
        block = next(c for c in root.children if c.type == "param_block")
        declarations = next(c for c in block.children if c.type == "parameter_list")
        while arguments:
            name = arguments.pop(0)[1:].lower()
            named[name] = True if name == "multitenant" else arguments.pop(0)
        self.scopes[0] |= self.bound(block, declarations, [], named)
        for child in root.named_children:
            if child.type == "statement_list":
                for statement in child.named_children:
                    out = []
                    self.run(statement, out)
                    for one in out:
                        print(text(one))


# Builtin commands. Each gets its positional and named arguments, and the input from the pipeline or None.


def builtin(function):
    def checked(self, node, positional, named, flowing):
        try:
            result = function(self, flowing, *positional, **named) if flowing is not None else function(self, *positional, **named)
        except TypeError as error:
            unsupported(node, str(error))
        return [] if result is None else result

    setattr(Interpreter, function.__name__, checked)


def external(name):
    def run(self, node, positional, named, flowing):
        process = subprocess.run([name, *map(text, positional)], stdout=subprocess.PIPE, text=True, check=False)
        self.scopes[0]["lastexitcode"] = process.returncode
        return process.stdout.splitlines() if not (named or flowing) else unsupported(node)

    setattr(Interpreter, f"command_{name}", run)


for program in ("chmod", "chgrp", "find", "getent", "id", "sh"):
    external(program)


@builtin
def command_get_module(self, name, listavailable):
    return [name]


@builtin
def command_set_strictmode(self, version=None, **_):
    return None


@builtin
def command_join_path(self, parent, child):
    return [os.path.join(parent, child)]


@builtin
def command_test_path(self, path):
    return [os.path.exists(path)]


@builtin
def command_new_item(self, path, itemtype, force=False):
    if itemtype == "Directory" and force:
        os.makedirs(path, exist_ok=True)
    elif itemtype == "File" and not force:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError as error:
            raise ScriptError(str(error)) from error
    else:
        raise TypeError(itemtype)
    return [path]


@builtin
def command_remove_item(self, path):
    os.remove(path)


@builtin
def command_set_content(self, path, value, nonewline):
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)


@builtin
def command_get_content(self, path, raw):
    with open(path, encoding="utf-8") as file:
        return [file.read()]


@builtin
def command_out_null(self, flowing):
    return None


@builtin
def command_where_object(self, flowing, block):
    kept = []
    for item in flowing:
        self.scopes.append({"_": item})
        out = []
        self.run_statement_list(block, out)
        self.scopes.pop()
        kept += [item] if truth(collapse(out)) else []
    return kept


@builtin
def command_start_sleep(self, seconds):
    return None


@builtin
def command_write_warning(self, message):
    print(f"WARNING: {message}")


@builtin
def command_convertto_json(self, value, depth):
    def depth_of(one):
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
        return 1 + max(map(depth_of, inner)) if inner else 0

    if depth_of(value) > depth:
        raise TypeError("deeper than -Depth")
    return [json.dumps(value)]


@builtin
def command_connect_mggraph(self, environment, scopes, nowelcome):
    if not {"Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All"} <= set(scopes):
        raise TypeError("the scopes do not suffice")
    self.environment = {
        "Global": "https://graph.microsoft.com",
        "USGov": "https://graph.microsoft.us",
        "USGovDoD": "https://dod-graph.microsoft.us",
    }[environment]
    self.directory.state["connected"] = self.environment


@builtin
def command_get_mgcontext(self):
    return [types.SimpleNamespace(TenantId="3f5c1d2e-0000-4000-8000-00000000c0de")]


@builtin
def command_invoke_mggraphrequest(self, method, uri, outputtype, skiphttperrorcheck, statuscodevariable, body=None, contenttype=None):
    if self.environment is None or outputtype != "HashTable" or not uri.startswith("/v1.0/"):
        raise TypeError(f"{method} {uri}")
    if (body is None) != (contenttype is None) or skiphttperrorcheck is not True:
        raise TypeError(f"{method} {uri}")
    try:
        status, response = self.directory.request(method, self.environment + uri, None if body is None else json.loads(body))
    except Lost as lost:
        raise ScriptError("An error occurred while sending the request.") from lost
    self.scopes[-1][statuscodevariable] = status
    return None if response is None else [response]


# Types of .NET


class CertificateRequest:
    def __init__(self, subject, key, *_):
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject.removeprefix("CN="))])
        self.key = key.key

    def CreateSelfSigned(self, start, end):
        builder = x509.CertificateBuilder().subject_name(self.name).issuer_name(self.name)
        builder = builder.public_key(self.key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(start.at).not_valid_after(end.at)
        return Certificate(builder.sign(self.key, hashes.SHA256()))


class Certificate:
    def __init__(self, certificate):
        self.certificate = certificate

    def ExportCertificatePem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode().rstrip("\n")


class Key:
    def __init__(self, bits):
        self.key = rsa.generate_private_key(65537, bits)

    def ExportPkcs8PrivateKeyPem(self):
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption()).decode().rstrip("\n")


class Time:
    def __init__(self, at):
        self.at = at

    def AddMinutes(self, minutes):
        return Time(self.at + datetime.timedelta(minutes=minutes))

    def AddDays(self, days):
        return Time(self.at + datetime.timedelta(days=days))


STATIC = {
    ("Console", "Error"): types.SimpleNamespace(WriteLine=lambda line: print(line, file=sys.stderr)),
    ("RSA", "Create"): Key,
    ("X509Certificates.CertificateRequest", "new"): CertificateRequest,
    ("HashAlgorithmName", "SHA256"): types.SimpleNamespace(),
    ("RSASignaturePadding", "Pkcs1"): types.SimpleNamespace(),
    ("DateTimeOffset", "UtcNow"): Time(datetime.datetime.now(datetime.timezone.utc)),
}


def main(script, *arguments):
    with open(script, "rb") as file:
        source = file.read()
    root = Parser(Language(tree_sitter_powershell.language())).parse(source).root_node
    if root.has_error:
        sys.exit(f"{script} is not valid PowerShell")
    try:
        Interpreter(source, Directory(os.environ["DIRECTORY"])).script(root, arguments)
    except Exit as code:
        sys.exit(code.args[0])
    except ScriptError as error:
        sys.exit(str(error))


main(*sys.argv[1:])
