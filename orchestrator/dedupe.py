"""Dedupe: each document of a slice is new, changed, unchanged, a duplicate, or refused. One query a slice.

A file whose stamp (size, times of change, inode) is that of the last commit is unchanged without being read.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine

from orchestrator.contracts.documents import MAX_ID_BYTES, Document, SplitDocument
from orchestrator.contracts.errors import DocumentError
from orchestrator.contracts.hashing import canonical_json, digest
from orchestrator.contracts.packed_nodes import pack_handed
from orchestrator.contracts.payload import BatchDocument, encode_payload, serialize
from orchestrator.contracts.spec import DocstoreStrategy, PipelineSpec
from orchestrator.ledger import documents as ledger_documents
from orchestrator.ledger.documents import DocumentRow, KnownDocument, version_of
from orchestrator.ledger.engine import begin
from orchestrator.ledger.failures import Failure, resolve

__all__ = ["Dedupe", "Numbered", "SliceTally"]

# A file changed this recently could change again within the same tick of the file system's clock.
_TRUSTED_AGE_NS = 2_000_000_000
_REMEMBERED_CHANGES = 100_000  # beyond, all unchanged documents are guarded: slower, and as right
_BLOCK_BYTES = 8 * 1024 * 1024
# A pipe that nobody writes to is opened without waiting for somebody, and refused a moment later.
_READ_WITHOUT_WAITING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

Numbered = tuple[int, Document]  # a document and its place in the job


@dataclass(slots=True)
class SliceTally:
    """What a slice adds to the ledger, besides batches."""

    unchanged: int = 0
    duplicate: int = 0
    listed: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stamps: list[tuple[str, str | None]] = field(default_factory=list)
    guarded: list[tuple[str, int]] = field(default_factory=list)
    aliases: list[DocumentRow] = field(default_factory=list)
    kept_aliases: list[str] = field(default_factory=list)  # which the ledger has as they are

    @property
    def payload_bytes(self) -> int:
        """Bytes of documents that it holds on to."""
        return sum(len(alias.payload or b"") for alias in self.aliases)


@dataclass(frozen=True, slots=True)
class _Body:
    """A document as it came in, read and hashed."""

    content: bytes
    is_text: bool
    is_split: bool
    body_hash: str
    content_hash: str
    stamp: str | None


class Dedupe:
    """Decides for one job. Hand it slices; it yields what has to be worked on and tallies the rest."""

    def __init__(self, engine: Engine, spec: PipelineSpec, job_number: int, max_document_bytes: int) -> None:
        self.engine = engine
        self.collection = spec.collection
        self.fingerprint = spec.fingerprint
        self.finds_duplicates = spec.strategy is DocstoreStrategy.DUPLICATES_ONLY
        self.job_number = job_number
        self.max_document_bytes = max_document_bytes
        self.tally = SliceTally()
        self._changed: set[str] = set()  # ids sent to be replaced: what a later slice says of them must win

    def take_tally(self) -> SliceTally:
        """What has been tallied since the last call."""
        tally, self.tally = self.tally, SliceTally()
        return tally

    def survivors(self, documents: Sequence[Numbered]) -> Iterator[BatchDocument | None]:
        """The documents of a slice that are new or changed, read one at a time.

        None now and then: no document, but a moment to take the tally, which holds the documents of aliases.
        """
        latest = self._admitted(documents)
        with begin(self.engine) as connection:
            known = ledger_documents.known(connection, self.collection, list(latest))
        undecided = [item for item in latest.items() if not self._is_gated(*item, known)]
        if self.finds_duplicates:
            yield from self._without_duplicates(undecided, known)
        else:
            for _, numbered in undecided:
                body = self._read(numbered)
                if body and not self._is_unchanged(numbered, body, known):
                    yield self._survivor(numbered, body, known)

    def _survivor(self, numbered: Numbered, body: _Body, known: dict[str, KnownDocument]) -> BatchDocument:
        survivor = _batch_document(numbered, body, known)
        if not survivor.is_new and len(self._changed) < _REMEMBERED_CHANGES:
            self._changed.add(survivor.id)
        return survivor

    def _admitted(self, documents: Sequence[Numbered]) -> dict[str, Numbered]:
        """Documents by id; the last of an id wins, and an id that no database could hold is refused."""
        latest: dict[str, Numbered] = {}
        for sequence, document in documents:
            name = document.name
            try:
                _check_id(name)
            except DocumentError as error:
                self.tally.failures.append(Failure.of(_printable(name), error, stage="read"))
                continue
            if name in latest:
                self.tally.duplicate += 1
            latest[name] = (sequence, document)
        self.tally.listed.extend(latest)
        return latest

    def _is_gated(self, name: str, numbered: Numbered, known: dict[str, KnownDocument]) -> bool:
        """Whether the file's stamp says that nothing happened to it, and its metadata is what it was."""
        row = known.get(name)
        if row is None or row.stamp is None or row.fingerprint != self.fingerprint or row.alias_of is not None:
            return False
        document = numbered[1]
        try:
            path = document.path
            if path is None:
                return False
            found = os.stat(path)  # noqa: PTH116 - a Path object a file would cost more than the call
            content_hash = digest(row.body_hash, canonical_json(document.metadata))
        except (DocumentError, OSError, TypeError, ValueError, RecursionError):
            return False  # reading it will say what is wrong
        if _stamp(found) != row.stamp or content_hash != row.content_hash:
            return False
        self._count_unchanged(name, numbered[0])
        return True

    def _count_unchanged(self, name: str, sequence: int) -> None:
        self.tally.unchanged += 1
        self.tally.guarded.append((name, version_of(self.job_number, sequence)))

    def _read(self, numbered: Numbered) -> _Body | None:
        """The document's body; None, and a failure, if it cannot be ingested."""
        document = numbered[1]
        try:
            return _read_body(document, self.max_document_bytes)
        except DocumentError as error:
            self.tally.failures.append(Failure.of(document.name, error, stage="read"))
            return None

    def _is_unchanged(self, numbered: Numbered, body: _Body, known: dict[str, KnownDocument]) -> bool:
        """Whether the ledger holds the same content, made in the same way."""
        row = known.get(numbered[1].name)
        if row is None or row.alias_of is not None:
            return False  # an alias has no nodes of its own
        if (row.content_hash, row.fingerprint) != (body.content_hash, self.fingerprint):
            return False
        self._count_unchanged(row.id, numbered[0])
        if body.stamp != row.stamp:
            self.tally.stamps.append((row.id, body.stamp))
        return True

    def _without_duplicates(
        self, undecided: Sequence[tuple[str, Numbered]], known: dict[str, KnownDocument]
    ) -> Iterator[BatchDocument | None]:
        """As `survivors`, but equal content under a second id becomes an alias of the first."""
        owners: dict[str, str] = {}
        leaving: set[str] = set()  # owners that say something else now: their old body is somebody else's to keep
        for read in self._read_in_blocks(undecided):
            leaving |= {
                row.id
                for (_, document), body in read
                if (row := known.get(document.name)) and row.body_hash != body.body_hash
            }
            with begin(self.engine) as connection:
                found = ledger_documents.known_bodies(
                    connection, self.collection, self.fingerprint, {body.body_hash for _, body in read}
                )
            owners = {body: owner for body, owner in found.items() if owner not in leaving} | owners
            yield from self._decide_duplicates(read, owners, known)
            yield None

    def _read_in_blocks(self, undecided: Sequence[tuple[str, Numbered]]) -> Iterator[list[tuple[Numbered, _Body]]]:
        """Bodies, a few megabytes at a time: a slice of large files does not fit into memory."""
        block: list[tuple[Numbered, _Body]] = []
        size = 0
        for _, numbered in undecided:
            body = self._read(numbered)
            if body is None:
                continue
            block.append((numbered, body))
            size += len(body.content)
            if size > _BLOCK_BYTES:
                yield block
                block, size = [], 0
        if block:
            yield block

    def _decide_duplicates(
        self, read: Sequence[tuple[Numbered, _Body]], owners: dict[str, str], known: dict[str, KnownDocument]
    ) -> Iterator[BatchDocument]:
        for numbered, body in read:
            name = numbered[1].name
            row = known.get(name)
            owner = owners.get(body.body_hash)
            has_nodes = row is not None and row.alias_of is None
            if owner is not None and owner != name and not has_nodes:
                self._record_alias(numbered, body, owner, known)
            elif not (has_nodes and self._is_unchanged(numbered, body, known)):
                owners.setdefault(body.body_hash, name)
                yield self._survivor(numbered, body, known)

    def _record_alias(self, numbered: Numbered, body: _Body, owner: str, known: dict[str, KnownDocument]) -> None:
        name = numbered[1].name
        version = version_of(self.job_number, numbered[0])
        self.tally.duplicate += 1
        row = known.get(name)
        said = (owner, body.content_hash, self.fingerprint)
        if row is not None and (row.alias_of, row.content_hash, row.fingerprint) == said:
            self.tally.kept_aliases.append(name)
            self.tally.guarded.append((name, version))
            return
        payload = encode_payload([_batch_document(numbered, body, known)])
        self.tally.aliases.append(_alias(name, owner, body, version, payload))

    def write(self, connection: Connection, job_id: str, tally: SliceTally, *, has_rivals: bool) -> None:
        """Write to the ledger's documents what a tally says of them."""
        guarded = tally.guarded
        if not has_rivals and len(self._changed) < _REMEMBERED_CHANGES:
            guarded = [(id, version) for id, version in guarded if id in self._changed]
        touched = {id for id, _ in (*tally.stamps, *guarded)} | {alias.id for alias in tally.aliases}
        if touched:
            ledger_documents.lock(connection, self.collection, touched)
        ledger_documents.refresh_stamps(connection, self.collection, tally.stamps)
        written = ledger_documents.claim(connection, self.collection, self.fingerprint, job_id, tally.aliases)
        # An alias is ingested, by way of the first: what kept it out before is resolved.
        resolve(connection, self.collection, self.job_number, [*written, *tally.kept_aliases])
        ledger_documents.guard_version(connection, self.collection, guarded)


def _alias(name: str, owner: str, body: _Body, version: int, payload: bytes) -> DocumentRow:
    return DocumentRow(
        id=name,
        content_hash=body.content_hash,
        body_hash=body.body_hash,
        stamp=body.stamp,
        alias_of=owner,
        node_count=0,
        version=version,
        payload=payload,
    )


def _batch_document(numbered: Numbered, body: _Body, known: dict[str, KnownDocument]) -> BatchDocument:
    sequence, document = numbered
    return BatchDocument(
        id=document.name,
        sequence=sequence,
        is_new=document.name not in known,
        is_text=body.is_text,
        content=body.content,
        metadata=document.metadata,
        content_hash=body.content_hash,
        body_hash=body.body_hash,
        stamp=body.stamp,
        is_split=body.is_split,
    )


def _check_id(name: str) -> None:
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise DocumentError("read", f"the id {_printable(name)!r} is not valid Unicode; rename the file") from None
    if size > MAX_ID_BYTES:
        raise DocumentError("read", f"the id has {size} bytes in UTF-8; allowed are {MAX_ID_BYTES}")
    if "\x00" in name:
        raise DocumentError("read", f"the id {_printable(name)!r} holds a NUL character")


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_body(document: Document, max_bytes: int) -> _Body:
    """Read and hash one document.

    Raises:
        DocumentError: it cannot be read, is empty or too large, or its metadata is not JSON.
    """
    try:
        metadata = canonical_json(document.metadata)
        serialize(document.metadata)  # JSON knows integers of any size, the payload does not
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DocumentError("read", f"its metadata is not JSON of 64-bit numbers: {error}") from error
    if isinstance(document, SplitDocument):
        return _split_body(document, max_bytes)
    path = document.path
    stamp = None
    if path is None:
        content = (document.text or "").encode("utf-8", "surrogatepass")
        _check_size(len(content), max_bytes)
    else:
        content, stamp = _read_file(path, max_bytes)
    if not content or content.isspace():
        raise DocumentError("read", "the document is empty" if not content else "the document is only white space")
    # A text is taken as it is, a file is parsed: the same bytes are not the same body.
    body_hash = digest("text" if path is None else "file", content)
    return _Body(content, path is None, False, body_hash, digest(body_hash, metadata), stamp)


def _split_body(document: SplitDocument, max_bytes: int) -> _Body:
    """The nodes of a document that somebody else has split. Their order and metadata are part of what it says."""
    nodes = [node for node in document.nodes if node.text.strip()]
    try:
        for node in nodes:
            canonical_json(node.metadata)
        content = pack_handed(nodes)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DocumentError("read", f"metadata of its nodes are not JSON of 64-bit numbers: {error}") from error
    _check_size(len(content), max_bytes)
    if not nodes:
        raise DocumentError("read", "its nodes have no text")
    body_hash = digest("nodes", content)
    return _Body(content, True, True, body_hash, digest(body_hash), None)


def _read_file(path: str, max_bytes: int) -> tuple[bytes, str | None]:
    try:
        # By the system's own calls: a file object takes as long to make as the file to read.
        file = os.open(path, _READ_WITHOUT_WAITING)
        try:
            # Taken from the open file, before reading: a change in between shows at the next run.
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise DocumentError("read", "it is not a regular file")
            _check_size(found.st_size, max_bytes)
            content = os.read(file, found.st_size + 1)  # a buffer of `max_bytes` would cost more than the file
            # It grows while it is read, or its file system gives it in parts.
            while len(content) != found.st_size and (more := os.read(file, max_bytes + 1 - len(content))):
                content += more
        finally:
            os.close(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DocumentError("read", f"it cannot be read: {reason}") from error
    _check_size(len(content), max_bytes)
    is_old = time.time_ns() - found.st_ctime_ns > _TRUSTED_AGE_NS
    return content, _stamp(found) if is_old and found.st_size == len(content) else None


def _stamp(found: os.stat_result) -> str:
    """What tells a file apart from what it was. The time of modification alone does not: archives and copies set it;
    the time of change is the kernel's own."""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DocumentError(
            "read", f"it has {size} bytes; allowed are {max_bytes} (DOCMILL_MAX_DOCUMENT_BYTES), or split it"
        )
