"""The tables of the manifest, and the steps that migrate an older file.

`MIGRATIONS[n]` migrates a file from version n to n + 1. SQLite's `user_version` holds the version. A released step is
never edited: add a new one instead.
"""

from __future__ import annotations

_V1 = """
-- A source tree that is kept indexed. device and inode say which directory it was when last seen.
CREATE TABLE repo (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    root    TEXT NOT NULL UNIQUE,
    device  INTEGER NOT NULL,
    inode   INTEGER NOT NULL
);

-- One build of a repo's index: what was stored under one fingerprint. A new fingerprint is built in a new
-- generation beside the one that serves, and switched to when it is complete.
CREATE TABLE generation (
    id          INTEGER PRIMARY KEY,
    repo        INTEGER NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    collection  TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('building', 'serving', 'doomed')),
    files       INTEGER NOT NULL DEFAULT 0,
    chunks      INTEGER NOT NULL DEFAULT 0,
    -- whether the collection's ids are known to be those of the chunk rows
    checked     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX generation_repo ON generation (repo);

-- signature is NULL unless every file of the directory's listing is recorded as that listing had it.
CREATE TABLE directory (
    id         INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generation (id) ON DELETE CASCADE,
    path       TEXT NOT NULL,
    signature  BLOB,
    rules      BLOB,
    files      INTEGER NOT NULL DEFAULT 0,
    skipped    TEXT NOT NULL DEFAULT '{}',
    pruned     TEXT NOT NULL DEFAULT '[]',
    UNIQUE (generation, path)
);

-- skip is NULL for an indexed file, else why it has no chunks.
CREATE TABLE file (
    id          INTEGER PRIMARY KEY,
    directory   INTEGER NOT NULL REFERENCES directory (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    size        INTEGER NOT NULL,
    mtime_ns    INTEGER NOT NULL,
    ctime_ns    INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL,
    digest      BLOB NOT NULL,
    skip        TEXT,
    UNIQUE (directory, name)
);

-- The chunks that are live: their records are in the collection, and true.
CREATE TABLE chunk (
    file       INTEGER NOT NULL REFERENCES file (id) ON DELETE CASCADE,
    id         BLOB NOT NULL,
    start_line INTEGER NOT NULL,
    end_line   INTEGER NOT NULL,
    symbol     TEXT NOT NULL,
    language   TEXT NOT NULL,
    digest     BLOB NOT NULL,
    PRIMARY KEY (file, id)
) WITHOUT ROWID;
CREATE INDEX chunk_digest ON chunk (digest);

-- What a batch is about to do, or has left to do, in the collection. Empty when nothing is under way.
--   pending    the record may exist and is not true yet
--   relabelled the record exists; its metadata may differ from the chunk's row
--   doomed     the record may still exist and is no longer wanted
CREATE TABLE intent (
    generation INTEGER NOT NULL REFERENCES generation (id) ON DELETE CASCADE,
    id         BLOB NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('pending', 'relabelled', 'doomed')),
    path       TEXT NOT NULL,
    PRIMARY KEY (generation, id)
) WITHOUT ROWID;

-- The history of syncs. Times are nanoseconds since the epoch; result is a SyncResult as JSON.
CREATE TABLE run (
    id          INTEGER PRIMARY KEY,
    repo        INTEGER NOT NULL REFERENCES repo (id) ON DELETE CASCADE,
    kind        TEXT NOT NULL,
    started_ns  INTEGER NOT NULL,
    finished_ns INTEGER,
    outcome     TEXT NOT NULL DEFAULT 'running'
                CHECK (outcome IN ('running', 'done', 'interrupted', 'failed')),
    files_done  INTEGER NOT NULL DEFAULT 0,
    files_total INTEGER NOT NULL DEFAULT 0,
    chunks_done INTEGER NOT NULL DEFAULT 0,
    -- what it waits for, and since when
    trouble     TEXT,
    trouble_ns  INTEGER,
    error       TEXT,
    result      TEXT
);
CREATE INDEX run_repo ON run (repo);

-- What the store's files looked like when all of their records were known; no row until the first time.
CREATE TABLE store (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    seal TEXT NOT NULL
);

-- A store or a manifest that was found damaged: why, and where it was moved to.
CREATE TABLE incident (
    id     INTEGER PRIMARY KEY,
    at_ns  INTEGER NOT NULL,
    what   TEXT NOT NULL CHECK (what IN ('store', 'manifest')),
    reason TEXT NOT NULL,
    place  TEXT NOT NULL
);
"""

_V2 = """
-- paused: it is kept as it is until it is resumed. missing_s: for how many seconds the service has found the root gone.
-- removed: its collections are being dropped; it is a repo no longer.
ALTER TABLE repo ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN missing_s REAL NOT NULL DEFAULT 0;
ALTER TABLE repo ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

-- Roots that were removed by somebody, and are not to be discovered again.
CREATE TABLE declined (
    root TEXT PRIMARY KEY
) WITHOUT ROWID;
"""

_V3 = """
-- Why a file is cut as plain lines, or left out, although it has text: what its content does to who cuts or stores it.
ALTER TABLE file ADD COLUMN verdict TEXT;
UPDATE file SET verdict = 'storing it failed' WHERE skip = 'quarantined';
CREATE INDEX file_verdict ON file (directory) WHERE verdict IS NOT NULL;
-- By which version of the rules its content was taken for text, or for none; negative where the file may hold secrets.
ALTER TABLE file ADD COLUMN judged INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: tuple[str, ...] = (_V1, _V2, _V3)
VERSION = len(MIGRATIONS)
