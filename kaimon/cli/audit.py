"""`kaimon audit`: read, sign and verify the audit chains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kaimon.cli.tenant import database
from lake.settings import LakeSettings
from lake.stores import Store, open_store
from tenancy.audit import chains_of, read_chain
from tenancy.audit_heads import FOLDER, BadHeadError, SignedHead, read_head, signing_key
from tenancy.audit_verify import Fault, verify_chain
from tenancy.database import Database
from tenancy.people import names

app = typer.Typer(help="Read, sign and verify the audit chains.", no_args_is_help=True)


@app.command("list")
def list_(tenant: Annotated[str, typer.Option(help="Whose chain.")]) -> None:
    """List a tenant's records, oldest first, one a line: number, when, who, what, to what, details."""
    with database() as db:
        _, records = read_chain(db, tenant)
        people = names(db)
    for record in records:
        said = record.content
        who = people.get(str(said.get("actor")), said.get("actor"))
        detail = " ".join(f"{name}={value}" for name, value in (said.get("detail") or {}).items())
        print(f"{record.seq}  {said.get('at')}  {who}  {said.get('act')}  {said.get('subject')}  {detail}".rstrip())


@app.command()
def sign() -> None:
    """Sign each chain's head now, as the pipelines do every hour."""
    from pipelines.audit import sign_heads

    with database() as db:
        grown = sign_heads(db, open_store("audit", LakeSettings()))
    print(f"{len(grown)} heads signed")


@app.command()
def key(out: Annotated[Path | None, typer.Option(help="Write it to this file, not to stdout.")] = None) -> None:
    """Print the public key of signed heads, as PEM; keep a copy where no operator of kaimon can change it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    with database() as db:
        public = signing_key(db.settings.audit_key_path).public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)


@app.command()
def verify(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's chain.")] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM of `kaimon audit key`; without it, the key of this home.")
    ] = None,
) -> None:
    """Verify every chain against itself and against its signed heads; name the first bad record of each."""
    store = open_store("audit", LakeSettings())
    with database() as db:
        chains = {*chains_of(db), *store.prefixes(FOLDER)} if tenant is None else {tenant}
        faults = [fault for chain in sorted(chains) if (fault := _verify(db, store, chain, public_key)) is not None]
    for fault in faults:
        place = f"record {fault.seq}" if fault.seq else "signed heads"
        print(f"error: chain {fault.chain}, {place}: {fault.why}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


def _verify(db: Database, store: Store, chain: str, public_key: Path | None) -> Fault | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if public_key is None:
        public = signing_key(db.settings.audit_key_path).public_key()
    else:
        loaded = load_pem_public_key(public_key.read_bytes())
        if not isinstance(loaded, Ed25519PublicKey):
            raise ValueError(f"{public_key} is no Ed25519 public key")
        public = loaded
    signed: list[SignedHead] = []
    # Listed before the chain is read: a head can then name no record that the reading is too early to see.
    keys = [found.key for found in store.list(f"{FOLDER}/{chain}")]
    for name in keys:
        try:
            signed.append(read_head(name, store.get(name), public))
        except BadHeadError as error:
            return Fault(chain, 0, str(error))
    head, records = read_chain(db, chain)
    fault = verify_chain(chain, head, records, signed)
    if fault is None:
        last = max(signed, key=lambda one: one.head.seq, default=None)
        till = "none is signed" if last is None else f"signed up to {last.head.seq}"
        print(f"{chain}: {len(records)} records in order, {till}")
    return fault
