"""The rules that `access` must keep: each refused one would let through, or refuse, what nobody meant."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .findings import Finding
from .models import Access, AccessRule, Workload


@dataclass(frozen=True)
class Callers:
    """What identities in rules are compared by."""

    trust_domain: str
    workloads: Mapping[str, Workload]
    """Those that could be read."""
    names: frozenset[str]
    """Of all workloads."""
    strict: bool
    """Whether plain text, which carries no identity, is refused."""


def check_access(path: str, name: str, access: Access, callers: Callers) -> Iterator[Finding]:
    """Every finding in the access of one workload."""
    if name not in callers.names:
        yield _unknown(path, name, callers.names, "Nobody would be kept out: the policy would select nothing.")
        return
    yield from _default(path, access, callers)
    rules = [(f"{path}.{kind}[{i}]", rule) for kind in ("allow", "deny") for i, rule in enumerate(_of(access, kind))]
    for rule_path, rule in rules:
        yield from _callers(rule_path, rule, callers)
    for index, rule in enumerate(access.allow):
        yield from _open(f"{path}.allow[{index}]", rule)
    for index, rule in enumerate(access.deny):
        if not has_source(rule) and not (rule.methods or rule.paths or rule.ports):
            yield Finding(
                f"{path}.deny[{index}]",
                "{}",
                "names no caller and no call",
                "Every call would be refused, those of `allow` too.",
                "name callers, methods, paths or ports; to refuse what is not allowed, `default: deny`.",
            )
    yield from _repeated(path, access, callers)
    workload = callers.workloads.get(name)
    if workload is not None:
        yield from _calls(path, name, access, workload)


def _default(path: str, access: Access, callers: Callers) -> Iterator[Finding]:
    if access.default == "deny":
        return
    if access.allow:
        yield Finding(
            f"{path}.default",
            "allow",
            "contradicts the rules of `allow`",
            "Istio refuses what no rule of `allow` matches as soon as there is one, so this would not hold.",
            "`default: deny`, or leave `allow` out.",
        )
    elif not access.deny:
        yield Finding(
            path, "{default: allow}", "allows every call", "It would have no effect.", "give rules, or leave it out."
        )
    elif not callers.strict:
        for index, rule in enumerate(access.deny):
            if has_source(rule):
                yield Finding(
                    f"{path}.deny[{index}]",
                    "",
                    "refuses callers by identity, and `mtls` is not STRICT",
                    "Callers in plain text have no identity: they would pass.",
                    "`mtls: STRICT`, or `default: deny`.",
                )


def _callers(path: str, rule: AccessRule, callers: Callers) -> Iterator[Finding]:
    for name in rule.from_:
        if name not in callers.names:
            yield _unknown(f"{path}.from", name, callers.names, "The rule would be for nobody.")
    for index, value in enumerate(rule.paths):
        if value in ("/*", "/{**}"):
            yield Finding(
                f"{path}.paths[{index}]",
                value,
                "matches every path",
                "It would narrow nothing, though it looks as if it did.",
                "leave `paths` out, or name paths.",
            )


def _open(path: str, rule: AccessRule) -> Iterator[Finding]:
    if not has_source(rule):
        yield Finding(
            path,
            "",
            "names no caller",
            "Anyone would be let through, without any identity too.",
            "`from` with workloads of this stack, `principals` or `namespaces`.",
        )


def _repeated(path: str, access: Access, callers: Callers) -> Iterator[Finding]:
    for kind in ("allow", "deny"):
        rules = _of(access, kind)
        for index, rule in enumerate(rules):
            first = next((i for i in range(index) if _covers(rules[i], rule, callers)), None)
            if first is not None and (has_source(rule) or kind == "deny"):
                yield Finding(
                    f"{path}.{kind}[{index}]",
                    "",
                    f"matches nothing that {kind}[{first}] does not match",
                    "It would have no effect.",
                    f"drop it, or narrow {kind}[{first}].",
                )
    for index, rule in enumerate(access.allow):
        over = next((i for i, deny in enumerate(access.deny) if _covers(deny, rule, callers)), None)
        if over is not None and has_source(rule) and _says_anything(access.deny[over]):
            yield Finding(
                f"{path}.allow[{index}]",
                "",
                f"matches nothing that deny[{over}] does not match too",
                "Deny wins: the rule would let nothing through.",
                f"drop one of the two, or narrow deny[{over}].",
            )


def _calls(path: str, name: str, access: Access, workload: Workload) -> Iterator[Finding]:
    targets = {port.target: port for port in workload.ports}
    for kind in ("allow", "deny"):
        for index, rule in enumerate(_of(access, kind)):
            rule_path = f"{path}.{kind}[{index}]"
            if not workload.ports:
                yield Finding(
                    rule_path,
                    "",
                    f"is about calls of `workloads.{name}`, which has no ports",
                    "It would match nothing.",
                    "drop the rule; `default: deny` alone is right for a client.",
                )
                continue
            unknown = [port for port in rule.ports if port not in targets]
            for port in unknown:
                yield Finding(
                    f"{rule_path}.ports",
                    str(port),
                    "is no port that the app listens on",
                    "The rule would match nothing there.",
                    f"one of {', '.join(map(str, sorted(targets)))} (Istio goes by `targetPort`).",
                )
            spoken = {targets[port].protocol for port in (rule.ports or tuple(targets)) if port in targets}
            opaque = spoken & {"TCP", "TLS"}
            # Without ports, the rule is for those that speak HTTP.
            mixed = bool(opaque and rule.ports)
            if (rule.methods or rule.paths) and not unknown and (spoken == opaque or (kind == "deny" and mixed)):
                effect = "let nothing through" if kind == "allow" else "refuse every connection of these callers"
                yield Finding(
                    rule_path,
                    "",
                    f"is about methods or paths, and holds for a {sorted(opaque)[0]} port",
                    f"Istio cannot see them there: the rule would {effect}.",
                    "`ports` with HTTP ports alone, or neither methods nor paths.",
                )


def _covers(wide: AccessRule, narrow: AccessRule, callers: Callers) -> bool:
    """Whether all that `narrow` matches is surely matched by `wide`."""
    pairs = ((wide.methods, narrow.methods), (wide.paths, narrow.paths), (wide.ports, narrow.ports))
    if not all(not w or (n and set(n) <= set(w)) for w, n in pairs):
        return False
    if not has_source(wide):
        return True
    identities = _identities(narrow, callers)
    known = _identities(wide, callers)
    return (
        has_source(narrow)
        and set(narrow.namespaces) <= set(wide.namespaces)
        and all(who in known or who.split("/")[2] in wide.namespaces for who in identities)
    )


def _identities(rule: AccessRule, callers: Callers) -> set[str]:
    """The principals of a rule; a workload that could not be read stands for itself."""
    found = set(rule.principals)
    for name in rule.from_:
        workload = callers.workloads.get(name)
        namespace, account = (workload.namespace, workload.service_account or name) if workload else ("", name)
        found.add(f"{callers.trust_domain}/ns/{namespace}/sa/{account}")
    return found


def has_source(rule: AccessRule) -> bool:
    """Whether a rule is for some callers alone."""
    return bool(rule.from_ or rule.principals or rule.namespaces)


def _says_anything(rule: AccessRule) -> bool:
    return has_source(rule) or bool(rule.methods or rule.paths or rule.ports)


def _of(access: Access, kind: str) -> tuple[AccessRule, ...]:
    return access.allow if kind == "allow" else access.deny


def _unknown(path: str, name: str, names: frozenset[str], consequence: str) -> Finding:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    fix = f"did you mean `{near[0]}`?" if near else f"one of {', '.join(sorted(names)) or '`workloads`: it is empty'}."
    value = "" if path.endswith(f".{name}") else name
    return Finding(path, value, "names no workload", consequence, fix)
