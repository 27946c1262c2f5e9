-- What projects keep: notes, entries of a calendar. `data` is the record in JSON, `id` and `at` are its own.

CREATE TABLE records (
    project text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (project, collection, id)
);
CREATE INDEX records_by_time ON records (project, collection, at, id);
