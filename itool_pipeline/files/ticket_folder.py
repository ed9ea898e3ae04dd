"""Tickets as files of a folder that several machines may share: `00000007`.

What is asked of the file system: of several that create one name exclusively, one succeeds, as on local disks, NFS 3
and 4, SMB, Lustre and CephFS; not of links, renames or the clocks. What a client shows may be old. An old list of
names only says where to begin to try; a name that seems missing is tried, which the server decides; a ticket that is
closed and seems open is waited for a little longer. Nothing that was closed is ever open again: who writes that a
ticket is closed writes behind what its owner writes.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from itool_pipeline.files.process_identity import ProcessIdentity
from itool_pipeline.files.ticket_line import LOST, OVER, Ticket

_NAME = re.compile(r"\d{8}")
_RECORD_BYTES = 512
"""Of the owner's part of a ticket, filled up with spaces. Behind it stands how it was closed."""


@dataclass(frozen=True, slots=True)
class TicketFolder:
    """Tickets as files."""

    folder: Path

    def path(self, number: int) -> Path:
        return self.folder / f"{number:08d}"

    def highest(self) -> int:
        return max((int(path.name) for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), default=0)

    def take(self, number: int, ticket: Ticket) -> bool:
        owner = asdict(ticket.owner) if ticket.owner else None
        record = json.dumps({"owner": owner, "shared": ticket.shared}).ljust(_RECORD_BYTES - 1)
        try:
            descriptor = os.open(self.path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            os.pwrite(descriptor, f"{record}\n".encode(), 0)
        finally:
            os.close(descriptor)
        if ticket.closed:
            self.close(number, ticket.closed)
        return True

    def read(self, number: int) -> Ticket | None:
        # Opening a file is what makes a network file system ask the server how it is now.
        try:
            with self.path(number).open("rb") as file:
                content, changed = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None
        closed = content[_RECORD_BYTES:].decode(errors="replace").strip()
        try:
            record = json.loads(content[:_RECORD_BYTES])
            owner = ProcessIdentity(**record["owner"]) if record["owner"] else None
            return Ticket(owner, record["shared"], closed if closed in (OVER, LOST) else "", changed)
        except (ValueError, KeyError, TypeError):  # not written yet, or never
            return Ticket(closed=closed if closed in (OVER, LOST) else "", changed_ns=changed)

    def close(self, number: int, how: str) -> None:
        descriptor = os.open(self.path(number), os.O_WRONLY)
        try:
            os.pwrite(descriptor, f"{how}\n".encode(), _RECORD_BYTES)
        finally:
            os.close(descriptor)

    def renew(self, number: int) -> None:
        """Set its time of change: the owner is alive."""
        os.utime(self.path(number))
