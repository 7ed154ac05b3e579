"""Environment: the image's name, the hosts that may be reached, the quantities."""

import re
from collections.abc import Iterator

from optio.compiler.diagnostics import Diagnostic
from optio.compiler.resolve import ResolvedTask
from optio.model.route import Route

LONGEST_IMAGE = 512
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?/)?"
_IMAGE = rf"{_HOST}{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
_NAME = re.compile(
    r"(?:\*\.)?(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE
)
_ADDRESS = r"[0-9a-fA-F.:]+(?:/[0-9.]+)?"
_METADATA_ADDRESSES = ("169.254.169.254", "fd00:ec2::254")
_METADATA = frozenset({*_METADATA_ADDRESSES, "metadata.google.internal"})
_QUANTITY = r"[0-9]+(?:\.[0-9]+)?(?:m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?"


def check(task: ResolvedTask) -> Iterator[Diagnostic]:
    """What could never work is said now, and not when the pod fails to start."""
    environment = task.spec.environment
    if environment.image is not None and "{{" not in environment.image and not _is_image(environment.image):
        yield _bad_image(task, environment.image)
    if environment.network is not None:
        for index, host in enumerate(environment.network.egress):
            yield from _host(task, ("environment", "network", "egress", index), host)
    if environment.resources is not None:
        for key, value in (("cpu", environment.resources.cpu), ("memory", environment.resources.memory)):
            if value is not None and not re.fullmatch(_QUANTITY, value):
                hint = 'write "1" or 500m' if key == "cpu" else "write 2Gi or 512Mi"
                yield task.at("OPT105", f"`{value}` is no quantity of {key}", ("environment", "resources", key), hint=hint)


def _is_image(image: str) -> bool:
    return len(image) <= LONGEST_IMAGE and re.fullmatch(_IMAGE, image) is not None


def _bad_image(task: ResolvedTask, image: str) -> Diagnostic:
    if "://" in image:
        hint = f"write `{image.split('://', 1)[1]}`, without the scheme"
    elif image != image.lower() and _is_image(image.lower()):
        hint = f"write `{image.lower()}`: image names are lower case"
    elif "@" in image:
        hint = "a digest is `@sha256:` and 64 hexadecimal digits"
    else:
        hint = "write `registry/name:tag` or `registry/name@sha256:...`"
    return task.at("OPT502", f"`{image}` is no image reference", ("environment", "image"), hint=hint)


def _host(task: ResolvedTask, route: Route, host: str) -> Iterator[Diagnostic]:
    if "{{" in host:
        return
    if host in _METADATA:
        yield task.at(
            "OPT511", f"`{host}` is a cloud's metadata address", route, hint="delete it: it hands out the node's credentials"
        )
        return
    if re.fullmatch(_ADDRESS, host) and (holds := _holds_metadata(host)) is not None:
        if holds:
            yield task.at("OPT511", f"`{host}` holds a cloud's metadata address", route, hint="leave 169.254.169.254 out")
        return
    if "://" in host or "/" in host:
        bare = re.sub(r"^[a-z+]+://", "", host, flags=re.IGNORECASE).split("/", 1)[0].split("@")[-1].split(":", 1)[0]
        yield task.at(
            "OPT511",
            f"`{_masked(host)}` is no host name",
            route,
            hint=f"write `{bare}`" if bare else "write the host's name alone",
        )
    elif not _NAME.fullmatch(host):
        star = "*" in host
        hint = (
            "a wildcard stands first, as in `*.example.com`" if star else "write a host name, or an address such as 10.0.0.0/8"
        )
        yield task.at("OPT511", f"`{host}` is no host name", route, hint=hint)


def _holds_metadata(address: str) -> bool | None:
    """Whether it lets an agent reach a metadata address; None for what is no address or network."""
    # Imported here: most hosts are names.
    import ipaddress

    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return None
    # Everything at once is said in so many words, and nobody takes it for a narrow list.
    return network.prefixlen > 0 and any(ipaddress.ip_address(a) in network for a in _METADATA_ADDRESSES)


def _masked(url: str) -> str:
    """A URL without the user's name and password."""
    return re.sub(r"//[^/@]*@", "//***@", url)
