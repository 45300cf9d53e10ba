CREATE TABLE head (
    one        smallint PRIMARY KEY CHECK (one = 1),
    last_seq   bigint NOT NULL,
    -- How far the rollups go.
    rolled_seq bigint NOT NULL
);
INSERT INTO head VALUES (1, 0, 0);

CREATE TABLE epochs (
    number     integer PRIMARY KEY,
    epoch      text        NOT NULL UNIQUE,
    first_seq  bigint      NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ingest (
    writer   text PRIMARY KEY,
    position bigint NOT NULL
);

CREATE TABLE tags (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    unit text
);
CREATE UNIQUE INDEX tags_name_unit ON tags (name, coalesce(unit, ''));

CREATE TABLE batches (
    last_seq   bigint PRIMARY KEY,
    first_seq  bigint      NOT NULL,
    writer     text        NOT NULL,
    position   bigint      NOT NULL,
    first_time timestamptz NOT NULL,
    last_time  timestamptz NOT NULL
);
CREATE INDEX batches_last_time ON batches (last_time);

CREATE TABLE readings (
    seq     bigint PRIMARY KEY,
    time    timestamptz NOT NULL,
    tag     integer     NOT NULL,
    value   double precision,
    quality smallint    NOT NULL,
    text    text
);

-- What all readings of a tag within a minute, or an hour, come to. By time first: what is written at a time lies together.
CREATE TABLE rollups_minute (
    start      timestamptz NOT NULL,
    tag        integer NOT NULL,
    readings   bigint  NOT NULL,
    bad        bigint  NOT NULL,
    minimum    double precision,
    maximum    double precision,
    first_time timestamptz,
    first      double precision,
    last_time  timestamptz,
    last       double precision,
    PRIMARY KEY (start, tag)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE rollups_hour (
    start      timestamptz NOT NULL,
    tag        integer NOT NULL,
    readings   bigint  NOT NULL,
    bad        bigint  NOT NULL,
    minimum    double precision,
    maximum    double precision,
    first_time timestamptz,
    first      double precision,
    last_time  timestamptz,
    last       double precision,
    PRIMARY KEY (start, tag)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02);

-- Readings that were made and are not here. Whoever has the order up to at_seq was told; first_seq: they were stored once.
CREATE TABLE gaps (
    number     bigint PRIMARY KEY,
    at_seq     bigint NOT NULL,
    first_seq  bigint,
    first_time timestamptz NOT NULL,
    last_time  timestamptz NOT NULL,
    readings   bigint NOT NULL,
    reason     text NOT NULL
);
CREATE INDEX gaps_at_seq ON gaps (at_seq);

-- Retention takes from the old end for ever: what is dead there is cleared up long before it is a fifth of all.
ALTER TABLE readings SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE batches SET (autovacuum_vacuum_scale_factor = 0.02);
