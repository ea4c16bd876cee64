"""Which requests are traced, and what a trace says besides."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from .base import EnvironmentName, HeaderName, Model, Number, Text, setting

TagName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,62}$")]


class Tag(Model):
    """Where a tag's value comes from. One of the three."""

    literal: Text | None = setting(
        None,
        meaning="Always this text.",
        example="shop",
        wrong="traces could not be told apart by it.",
        fix="a text.",
    )
    header: HeaderName | None = setting(
        None,
        meaning="The value of this request header.",
        example="x-tenant",
        wrong="traces could not be told apart by it.",
        fix="a header's name in lower case.",
    )
    environment: EnvironmentName | None = setting(
        None,
        meaning="The value of this variable of the proxy's agent.",
        example="ISTIO_META_CLUSTER_ID",
        wrong="traces could not be told apart by it.",
        fix="a variable's name.",
    )
    default: Text | None = setting(
        None,
        meaning="What the tag says where header or variable is not there.",
        example="none",
        wrong="the tag would be missing.",
        fix="a text, or leave it out.",
    )


class Tracing(Model):
    """Which requests are traced, and what a trace says besides."""

    sampling_percent: Annotated[Number, Field(ge=0, le=100)] = setting(
        1.0,
        meaning="Share of the requests that are traced, where the caller has not decided.",
        example=1.0,
        wrong="nothing would be traced, or so much that it costs.",
        fix="0 to 100.",
    )
    providers: tuple[Text, ...] = setting(
        (),
        meaning="Where traces go: names of the mesh's `extensionProviders`. Default: the mesh's default providers.",
        example=["otel"],
        wrong="traces would go nowhere.",
        fix="names in `controlPlane.values.meshConfig.extensionProviders`.",
        max_length=1,
    )
    tags: Mapping[TagName, Tag] = setting(
        default_factory=dict,
        meaning="Tags that each trace carries besides.",
        example={"team": {"literal": "shop"}},
        wrong="traces could not be told apart by them.",
        fix="`{name: {literal: …}}`, `{header: …}` or `{environment: …}`.",
    )
