"""Who may call what."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from .base import HttpPath, Model, Name, Port, Principal, setting


def _not_empty(value: object) -> object:
    # Istio takes an empty list for "any", the opposite of what it looks like.
    if isinstance(value, list | tuple) and not value:
        raise ValueError("is an empty list")
    return value


HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"]
_NotEmpty = BeforeValidator(_not_empty)


class AccessRule(Model):
    """One kind of call: who calls, and what for. What is left out is not looked at."""

    from_: Annotated[tuple[Name, ...], _NotEmpty] = setting(
        (),
        alias="from",
        meaning="Callers that are workloads of this stack, by name: whoever has the identity of one of them.",
        example=["client"],
        wrong="the rule would be for nobody.",
        fix="a list of names from `workloads`, or leave it out.",
    )
    principals: Annotated[tuple[Principal, ...], _NotEmpty] = setting(
        (),
        meaning="Other callers, by identity, as Istio writes it: without `spiffe://`. "
        "A caller of any of `from`, `principals` and `namespaces` will do.",
        example=["cluster.local/ns/default/sa/payment-service"],
        wrong="it would match nobody, or with `*` whoever has any certificate of the mesh.",
        fix="`<trust domain>/ns/<namespace>/sa/<service account>`; for a whole namespace, `namespaces`.",
    )
    namespaces: Annotated[tuple[Name, ...], _NotEmpty] = setting(
        (),
        meaning="Other callers, by the namespace in their identity.",
        example=["shop"],
        wrong="the rule would match nobody.",
        fix="a list of namespaces' full names, or leave it out.",
    )
    methods: Annotated[tuple[HttpMethod, ...], _NotEmpty] = setting(
        (),
        meaning="HTTP methods (gRPC: POST); default any.",
        example=["GET", "POST"],
        wrong="the rule would match no request.",
        fix="a list of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT, or leave it out.",
    )
    paths: Annotated[tuple[HttpPath, ...], _NotEmpty] = setting(
        (),
        meaning="Paths without the query: whole (`/orders`), all below (`/orders/*`), all that end so (`*/health`), "
        "or a template (`/orders/{*}/items`: one part; `{**}`: any number); default any.",
        example=["/orders", "/orders/*"],
        wrong="the rule would match no request.",
        fix="a list of paths that start with `/` or with `*`, or leave it out.",
    )
    ports: Annotated[tuple[Port, ...], _NotEmpty] = setting(
        (),
        meaning="Ports that the app listens on (`targetPort`); default any.",
        example=[8080],
        wrong="the rule would match no request.",
        fix="a list of numbers, or leave it out.",
    )


class Access(Model):
    """Who may call one workload, in pods and on VMs alike. What `deny` matches is refused, whatever else is said."""

    default: Literal["deny", "allow"] = setting(
        "deny",
        meaning="What becomes of calls that no rule matches. `allow` goes with `deny` rules only.",
        example="deny",
        wrong="it would be unclear who may call.",
        fix="`deny` or `allow`.",
    )
    allow: tuple[AccessRule, ...] = setting(
        (),
        meaning="Calls that are let through. Each names its callers.",
        example=[{"from": ["client"], "methods": ["GET"]}],
        wrong="calls would be let through, or refused, that should not be.",
        fix="a list of rules such as `{from: [client], methods: [GET]}`.",
    )
    deny: tuple[AccessRule, ...] = setting(
        (),
        meaning="Calls that are refused, even if a rule of `allow` matches them too.",
        example=[{"paths": ["/admin/*"]}],
        wrong="calls would be let through, or refused, that should not be.",
        fix="a list of rules such as `{from: [client], paths: [/admin/*]}`.",
    )
