"""The security policy as customers read it: each sentence with its limit, and whoever else processes their data.

`docs/security-policy.md` has the same rows, with what makes each true; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Promise:
    """A sentence of the policy. `row` is its name in docs/security-policy.md; `limit` is where it ends."""

    row: str
    text: str
    limit: str = ""


@dataclass(frozen=True)
class Processor:
    """A company that processes data for kaimon: what it does, what it gets, where."""

    name: str
    does: str
    gets: str
    where: str


PROMISES: Final = (
    Promise(
        "TLS 1.2 or newer only",
        "Hosts, browsers and programs reach kaimon by TLS 1.2 or newer, by nothing else.",
        "Operators' own pages speak plain HTTP, on the machine itself only.",
    ),
    Promise(
        "AES-256 at rest",
        "What is stored is encrypted with AES-256.",
        "By a key for each tenant it was tried on a stand-in for AWS, not on AWS. On a local disk the volume encrypts.",
    ),
    Promise(
        "Enrollment tokens are a tenant's own",
        "An enrollment token is yours alone: it enrolls hosts of no other tenant.",
    ),
    Promise("… stored encrypted", "Tokens are stored encrypted, and are shown once."),
    Promise(
        "… revoked at once",
        "A token that you revoke ends every credential that it issued.",
        "Within a second; where the control database cannot be asked, later, by a bound that the operator sets.",
    ),
    Promise("… never logged", "No token is ever written to a log."),
    Promise(
        "Every API call is audited",
        "Every call of an API leaves a record.",
        "A server that is killed may lose its last seconds of them; what changed something is on your audit log still.",
    ),
    Promise("… every storage access", "So does every access to storage."),
    Promise("… every compute run", "So does every run that computes on your data."),
    Promise(
        "… so that nobody can change what it says",
        "Your audit log is a chain: a record that is changed or removed is noticed.",
        "That nobody can delete the copy in the audit store is a setting of the bucket.",
    ),
    Promise("Least privilege", "Each part of kaimon may do what it needs and nothing else."),
    Promise(
        "No long-lived credentials",
        "Nothing that runs holds a key of AWS that never ends.",
        "A host's credential lasts until you revoke its token.",
    ),
    Promise(
        "Tenants are isolated at every layer",
        "Your data is apart from every other tenant's: in the API, in storage, in queries.",
        "A session of AWS for each tenant needs a role that the operator sets.",
    ),
    Promise(
        "The agent is one static program, signed",
        "The agent is one static program, and each release of it is signed.",
        "There is no public release yet, so no key of kaimon's to trust: compare the key's fingerprint on another way.",
    ),
    Promise("… that only reads events", "It only reads events: it blocks and changes nothing."),
    Promise("… keeps them in memory", "It keeps them in memory, and writes none to a disk."),
    Promise(
        "… collects no file contents",
        "It collects no contents of files.",
        "What it does collect is listed, column by column, in SECURITY.md.",
    ),
    Promise("… and runs no code from the network", "It runs no code from the network."),
    Promise(
        "… on Linux 5.14 or newer with BTF",
        "It runs on Linux 5.14 or newer with BTF.",
        "Tried on 6.1, 6.12 and 6.18; not on 5.14 itself.",
    ),
    Promise(
        "Login is by an outside identity provider",
        "People log in at an identity provider of yours or ours; kaimon has no passwords.",
        "Tried with providers that speak OpenID Connect; GitHub and Google themselves were not tried.",
    ),
    Promise(
        "Roles Member and Admin are enforced by the server",
        "What Members and Admins may do is decided by the server, at every request.",
    ),
    Promise(
        "Card data never touches us",
        "Cards are typed in on Stripe's pages; no card number reaches kaimon.",
        "Tried against a stand-in for Stripe, never against Stripe.",
    ),
    Promise(
        "Data stays in the United States",
        "Your data stays in the United States.",
        "Of AWS the software makes sure itself; where a machine stands that is not of AWS, it cannot know.",
    ),
    Promise("Events are kept for the subscription", "Events are kept as long as you subscribe."),
    Promise("Trial data is deleted 30 days after the trial", "What a trial held is deleted 30 days after it."),
    Promise(
        "Deletion on request",
        "All of your data is deleted when you ask, with a signed receipt.",
        "An Admin asks under Retention; nobody is mailed that it was done. Backups that whoever runs this kaimon made, "
        "and mails sent, stay.",
    ),
    Promise(
        "Customer data never trains a model",
        "Your data never trains a model.",
        "What a model is asked holds nothing of yours; that Amazon Bedrock does not train on it is Amazon's promise.",
    ),
    Promise(
        "Write to security@kaimon.co",
        "Found a problem? Write to security@kaimon.co before you tell others.",
        "Please use only hosts and tenants of your own to find it.",
    ),
)
"""In the order of docs/security-policy.md; what begins with … goes on with the promise before it."""

PROCESSORS: Final = (
    Processor(
        "Amazon Web Services: S3",
        "stores events, tables, summaries and audit logs",
        "all that is kept of you",
        "United States",
    ),
    Processor(
        "Amazon Web Services: KMS",
        "keeps the keys that data is encrypted with",
        "keys, and the names of what they encrypt",
        "United States",
    ),
    Processor(
        "Amazon Web Services: SES",
        "sends summaries by mail",
        "recipients' addresses, and the summaries",
        "United States",
    ),
    Processor(
        "Stripe",
        "takes payments",
        "your tenant's id and name, and what whoever pays types in on its pages",
        "on terms of Stripe's",
    ),
)
"""Whom an installation on AWS uses for every tenant; one elsewhere uses those alone that its operator set up."""
MODEL: Final = Processor(
    "Amazon Web Services: Bedrock",
    "words your summaries",
    "what kind of things happened; no name, path or number of yours",
    "United States",
)
"""Only of a tenant that lets a model word its summaries."""
