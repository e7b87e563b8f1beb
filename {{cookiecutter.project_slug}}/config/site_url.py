"""From SITE_URL to the hosts and origins that Django is to accept. Pure functions."""

import re
import unicodedata
from ipaddress import IPv6Address

from django.core.exceptions import ImproperlyConfigured

URL = re.compile(r"(https?)://(?:\[([^\]]+)\]|([^\s/?#@:\[\]]+))(?::(\d+))?/?", re.IGNORECASE)
# Browsers leave these out.
DEFAULT_PORTS = {"http": "80", "https": "443"}


def site_hosts(site_url: str) -> dict[str, str]:
    """For each URL its origin, and its host, as browsers send them.

    :param site_url: one, or several with commas between them
    :raises ImproperlyConfigured: for one that is not a scheme, a host and perhaps a port
    """
    found = {}
    for url in map(str.strip, site_url.split(",")):
        match = URL.fullmatch(url)
        try:
            scheme, address, name, port = match.groups("") if match else ("", "", "", "")
            host = f"[{IPv6Address(address)}]" if address else ascii_name(name)
        except ValueError:
            host = ""
        if not host:
            raise ImproperlyConfigured(
                f"SITE_URL has {url!r}. Give http:// or https:// and a host, such as https://www.example.com, and "
                "nothing after it but a port. Several sites have commas between them."
            )
        scheme = scheme.lower()
        found[f"{scheme}://{host}" + (f":{port}" if port not in ("", DEFAULT_PORTS[scheme]) else "")] = host
    return found


def ascii_name(name: str) -> str:
    """`bücher.example` as a browser asks for it, `xn--bcher-kva.example`.

    Not by Python's codec `idna`, which is of 2003: it makes `ss` of an ß, and browsers do not any more.

    :raises ValueError: for what names no host
    """
    labels = re.split("[.。]", unicodedata.normalize("NFKC", name).lower())
    ascii_labels = [label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels]
    if not all(re.fullmatch("[a-z0-9_-]{1,63}", label) for label in ascii_labels):
        raise ValueError(name)
    return ".".join(ascii_labels)
