"""One large file over HTTP: continued where it broke off, checked, whole or not at all.

Written for the Hugging Face hub, which states a large file's SHA-256 (``X-Linked-Etag``) and the
commit (``X-Repo-Commit``) before it redirects to the storage. Its own client asks for more than
the file and begins anew in every process.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from gpupilot_envs.errors import StackFailed

PATIENCE_S = 30.0
CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the hub says of a file.

    Attributes:
        sha256: Its checksum, empty where the hub states none.
        commit: The revision it belongs to, empty where the hub states none.
    """

    sha256: str
    commit: str


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: what is wanted stands in the redirecting answer."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def ask(url: str) -> Stated:
    """Return what is said of a file without fetching it.

    Raises:
        StackFailed: The hub cannot be reached or does not have the file.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=PATIENCE_S) as answer:
            headers: Message = answer.headers
    except urllib.error.HTTPError as error:
        error.close()
        if not 300 <= error.code < 400:
            raise StackFailed(f"{url} is not to be had: {error.code} {error.reason}") from error
        headers = error.headers
    except OSError as error:
        raise StackFailed(f"cannot reach {url}: {_reason(error)}") from error
    found = _SHA256.fullmatch(headers.get("X-Linked-Etag") or headers.get("ETag") or "")
    commit = headers.get("X-Repo-Commit") or ""
    return Stated(sha256=found[1] if found else "", commit=commit)


def fetch(url: str, partial: Path, stated: Stated) -> str:
    """Bring a file into ``partial``, continuing what is there, and return its SHA-256.

    Raises:
        StackFailed: It broke off, and calling again goes on; or it arrived damaged.
    """
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            # 200 to a request for a part is the whole file again
            mode = "ab" if answer.status == http.client.PARTIAL_CONTENT else "wb"
            with partial.open(mode) as file:
                while chunk := answer.read(CHUNK_BYTES):
                    file.write(chunk)
            missing = answer.length
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise StackFailed(f"{url} is not to be had: {error.code} {error.reason}") from error
        missing = 0  # nothing behind what we have: it is whole
    except (OSError, http.client.HTTPException) as error:
        raise StackFailed(f"{url} broke off ({_reason(error)}); run it again to go on") from error
    if missing:
        raise StackFailed(f"{url} broke off {missing:,} bytes early; run it again to go on")
    sha256 = sha256_of(partial)
    if stated.sha256 and stated.sha256 != sha256:
        partial.unlink()
        raise StackFailed(f"{url} arrived damaged ({sha256}, not {stated.sha256}); run it again")
    return sha256


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error))
