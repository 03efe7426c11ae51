#!/usr/bin/env python3
"""Computes test/vectors/mikey-*.json from the RFC texts alone, with Python's standard library. With --check: compares instead of writing."""

import json
import sys
from pathlib import Path

import credentials
import dh
import pk
import private
import psk
import rsa_r

FILES = {
    "mikey-psk.json": ("MIKEY pre-shared key mode (RFC 3830)", psk.make, []),
    "mikey-pk.json": (
        "MIKEY public-key mode (RFC 3830)",
        pk.make,
        ["root", "users", "alice", "alice-chain", "bob", "bob-encryption"],
    ),
    "mikey-dh.json": ("MIKEY Diffie-Hellman mode (RFC 3830)", dh.make_dh, ["root", "alice", "bob"]),
    "mikey-dhhmac.json": ("MIKEY DHHMAC mode (RFC 4650)", dh.make_dhhmac, []),
    "mikey-rsa-r.json": ("MIKEY RSA-R mode (RFC 4738)", rsa_r.make, ["root", "alice", "bob", "conference"]),
    "mikey-private.json": (
        "MIKEY with the additions of docs/protocol.md, and with MAC alg 2 in the modes of RFC 3830",
        private.make,
        ["root", "alice-ed25519", "bob-ed25519", "alice-p256", "bob-p256", "bob"],
    ),
}


def plain(value):
    """Octets as hexadecimal text."""
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def text(value, indent=""):
    """JSON with one line for each object or list that holds no other, so that a breakdown reads as a table."""
    nested = lambda item: isinstance(item, (dict, list)) and bool(item)
    if isinstance(value, dict) and any(nested(item) for item in value.values()):
        rows = [f"{indent} {json.dumps(key)}: {text(item, indent + ' ')}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, dict) and len(json.dumps(value)) > 300:
        return (
            "{\n" + ",\n".join(f"{indent} {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()) + f"\n{indent}}}"
        )
    if isinstance(value, list) and any(nested(item) for item in value):
        return "[\n" + ",\n".join(f"{indent} {text(item, indent + ' ')}" for item in value) + f"\n{indent}]"
    return json.dumps(value)


def document(title, make, names, keys):
    shown = {
        name: {
            "kind": keys[name].kind,
            "pkcs8": keys[name].pkcs8,
            "spki": keys[name].spki,
            "certificate": keys[name].certificate,
            "issuer": keys[name].issuer.name,
        }
        for name in names
    }
    return {
        "title": title,
        "license": "MIT",
        "description": "docs/test-vectors.md",
        "source": "test/vectors/mikey/generate.py",
        **({"credentials": shown} if shown else {}),
        "vectors": make(keys),
    }


def main():
    keys = credentials.make()
    folder = Path(__file__).resolve().parent.parent
    differing = []
    for name, (title, make, names) in FILES.items():
        content = text(plain(document(title, make, names, keys))) + "\n"
        if "--check" not in sys.argv:
            (folder / name).write_text(content)
        elif (folder / name).read_text() != content:
            differing.append(name)
    if differing:
        raise SystemExit(f"differs from what this script computes: {', '.join(differing)}")


main()
