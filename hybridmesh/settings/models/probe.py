"""Whether an app is ready."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from .base import AtLeastOne, Count, Model, Port, Seconds, Text, setting


class HttpGet(Model):
    """A probe that asks for a page."""

    path: Text = setting(
        "/",
        meaning="The path asked for.",
        example="/health/ready",
        wrong="the app would never be healthy.",
        fix="a path that answers 200.",
    )
    port: Port = setting(
        meaning="The app's port.", example=8080, wrong="the app would never be healthy.", fix="1 to 65535."
    )
    scheme: Literal["HTTP", "HTTPS"] = setting(
        "HTTP",
        meaning="HTTPS verifies the app's certificate.",
        example="HTTP",
        wrong="the app would never be healthy.",
        fix="HTTP or HTTPS.",
    )


class TcpSocket(Model):
    """A probe that opens a connection."""

    port: Port = setting(
        meaning="The app's port.", example=8080, wrong="the app would never be healthy.", fix="1 to 65535."
    )


class Exec(Model):
    """A probe that runs a command."""

    command: tuple[Text, ...] = setting(
        meaning="The command and its arguments; no shell. 0 is healthy.",
        example=["/usr/bin/test", "-e", "/run/ready"],
        wrong="the app would never be healthy.",
        fix="a list with a command in it.",
        min_length=1,
    )


def _no_grpc_probe(value: object) -> object:
    if value is not None:
        raise ValueError("is a kind of probe that crashes Istio's agent on a VM once the app turns NOT_SERVING")
    return value


class Probe(Model):
    """Whether the app is ready: it takes a VM, and a pod, in and out of rotation. One of the three kinds."""

    http_get: HttpGet | None = setting(
        None,
        meaning="Asks for a page.",
        example={"path": "/health/ready", "port": 8080},
        wrong="the app's health would be unknown.",
        fix="`{path, port}`.",
    )
    tcp_socket: TcpSocket | None = setting(
        None,
        meaning="Opens a connection.",
        example={"port": 8080},
        wrong="the app's health would be unknown.",
        fix="`{port}`.",
    )
    exec: Exec | None = setting(
        None,
        meaning="Runs a command.",
        example={"command": ["/usr/bin/test", "-e", "/run/ready"]},
        wrong="the app's health would be unknown.",
        fix="`{command: [...]}`.",
    )
    grpc: Annotated[None, BeforeValidator(_no_grpc_probe)] = setting(
        None,
        meaning="Refused: an app that turns NOT_SERVING would crash Istio's agent on its VM.",
        example={"port": 9090},
        wrong="the VM would lose its proxy, and with it all of its traffic, just when its app is unwell.",
        fix="tcpSocket on the app's port, or httpGet on a port that serves its health in HTTP, or exec.",
    )
    # Istio's agent counts a probe before Envoy is ready as failed, and waits a whole period for the next: with no delay
    # that is the first one, always (pkg/istio-agent/health/health_check.go).
    initial_delay_seconds: Count = setting(
        1,
        meaning="Wait before the first probe; Envoy starts meanwhile, without which none succeeds.",
        example=1,
        wrong="probes would start at a wrong time.",
        fix="seconds, 0 or more.",
    )
    timeout_seconds: Seconds = setting(
        1,
        meaning="Limit for one probe.",
        example=1,
        wrong="a slow app would look dead.",
        fix="seconds, 1 or more.",
    )
    period_seconds: Seconds = setting(
        5,
        meaning="Time between two probes.",
        example=5,
        wrong="a dead app would be seen late.",
        fix="seconds, 1 or more.",
    )
    success_threshold: AtLeastOne = setting(
        1,
        meaning="Successes in a row that make it healthy.",
        example=1,
        wrong="health would flap.",
        fix="1 or more.",
    )
    failure_threshold: AtLeastOne = setting(
        3,
        meaning="Failures in a row that make it unhealthy.",
        example=3,
        wrong="health would flap.",
        fix="1 or more.",
    )
