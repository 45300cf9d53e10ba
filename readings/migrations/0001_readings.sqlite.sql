CREATE TABLE head (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    last_seq   INTEGER NOT NULL,
    -- How far the rollups go.
    rolled_seq INTEGER NOT NULL
);
INSERT INTO head VALUES (1, 0, 0);

CREATE TABLE epochs (
    number     INTEGER PRIMARY KEY,
    epoch      TEXT    NOT NULL UNIQUE,
    first_seq  INTEGER NOT NULL,
    started_at INTEGER NOT NULL -- microseconds since 1970
);

CREATE TABLE ingest (
    writer   TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE tags (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    unit TEXT
);
CREATE UNIQUE INDEX tags_name_unit ON tags (name, coalesce(unit, ''));

CREATE TABLE batches (
    last_seq   INTEGER PRIMARY KEY,
    first_seq  INTEGER NOT NULL,
    writer     TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL
);
CREATE INDEX batches_last_time ON batches (last_time);

CREATE TABLE readings (
    seq     INTEGER PRIMARY KEY,
    time    INTEGER NOT NULL, -- microseconds since 1970
    tag     INTEGER NOT NULL,
    value   REAL,
    quality INTEGER NOT NULL,
    text    TEXT
);

-- What all readings of a tag within a minute, or an hour, come to. By time first: what is written at a time lies together.
CREATE TABLE rollups_minute (
    start      INTEGER NOT NULL, -- microseconds since 1970
    tag        INTEGER NOT NULL,
    readings   INTEGER NOT NULL,
    bad        INTEGER NOT NULL,
    minimum    REAL,
    maximum    REAL,
    first_time INTEGER,
    first      REAL,
    last_time  INTEGER,
    last       REAL,
    PRIMARY KEY (start, tag)
) WITHOUT ROWID;

CREATE TABLE rollups_hour (
    start      INTEGER NOT NULL, -- microseconds since 1970
    tag        INTEGER NOT NULL,
    readings   INTEGER NOT NULL,
    bad        INTEGER NOT NULL,
    minimum    REAL,
    maximum    REAL,
    first_time INTEGER,
    first      REAL,
    last_time  INTEGER,
    last       REAL,
    PRIMARY KEY (start, tag)
) WITHOUT ROWID;

-- Readings that were made and are not here. Whoever has the order up to at_seq was told; first_seq: they were stored once.
CREATE TABLE gaps (
    number     INTEGER PRIMARY KEY,
    at_seq     INTEGER NOT NULL,
    first_seq  INTEGER,
    first_time INTEGER NOT NULL,
    last_time  INTEGER NOT NULL,
    readings   INTEGER NOT NULL,
    reason     TEXT NOT NULL
);
CREATE INDEX gaps_at_seq ON gaps (at_seq);
