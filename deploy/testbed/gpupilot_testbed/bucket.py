"""An S3 server in a pod, which checks signatures and rights: its bucket opens to one key."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from gpupilot_testbed.product_images import STORAGE

PORT = 9000
READER = "reader"
_FOR_USERS = "AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/iam/aws4_request"
"""By its scope the server knows which of its services is meant; so far it lets everybody in."""

_FILE = {"Content-Type": "application/octet-stream"}


def pod(name: str) -> dict[str, Any]:
    """Return the pod of a server that is empty and open."""
    listen = ["moto_server", "--host", "0.0.0.0", "--port", str(PORT)]
    answers = {"httpGet": {"path": "/moto-api/", "port": PORT}, "periodSeconds": 1}
    container = {"name": "s3", "image": STORAGE, "command": listen, "readinessProbe": answers}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }


def locked(url: str, bucket: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Fill a new bucket and lock the server; return what opens it, as a client's environment.

    Args:
        url: Of an open server.
        bucket: Its name.
        files: What it holds, by key.

    Raises:
        OSError: The server cannot be reached, or refuses.
    """
    _ask("PUT", f"{url}/{bucket}")
    for key, data in files.items():
        _ask("PUT", f"{url}/{bucket}/{key}", data, _FILE)
    _user(url, "CreateUser")
    _user(url, "PutUserPolicy", PolicyName=bucket, PolicyDocument=json.dumps(_may_read(bucket)))
    made = _user(url, "CreateAccessKey")
    _ask("POST", f"{url}/moto-api/reset-auth", b"0", _FILE)
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": _within(made, "AccessKeyId"),
        "AWS_SECRET_ACCESS_KEY": _within(made, "SecretAccessKey"),
    }


def _may_read(bucket: str) -> dict[str, Any]:
    """Return a policy; of Amazon's, who may list may also ask for a head, here it has a name."""
    within = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    rights = ["s3:ListBucket", "s3:HeadBucket", "s3:GetObject"]
    statement = {"Effect": "Allow", "Action": rights, "Resource": within}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _user(url: str, action: str, **more: str) -> str:
    form = {"Action": action, "Version": "2010-05-08", "UserName": READER, **more}
    headers = {"Authorization": _FOR_USERS, "Content-Type": "application/x-www-form-urlencoded"}
    return _ask("POST", url, urlencode(form).encode(), headers)


def _ask(
    method: str, url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None
) -> str:
    asked = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    with urllib.request.urlopen(asked, timeout=60.0) as answer:
        said: bytes = answer.read()
    return said.decode("utf-8")


def _within(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>([^<]+)</{tag}>", text)
    assert found is not None, text
    return found[1]
