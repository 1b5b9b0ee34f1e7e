"""The tables of a node's file. A change of meaning or shape raises `VERSION` and adds a step to `MIGRATIONS`.

`held` is soft state: other holders have it too. Everything else is the journal, which exists nowhere else.
"""

from typing import Final

APPLICATION_ID: Final = 0x64687478  # "dhtx": tells our file from any other SQLite file
VERSION: Final = 5

# What version n adds to version n - 1, starting from an empty file.
MIGRATIONS: Final[dict[int, str]] = {
    1: """
CREATE TABLE facts(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE orders(
    order_id BLOB PRIMARY KEY, wire BLOB NOT NULL, state TEXT NOT NULL, seq INTEGER NOT NULL,
    status_wire BLOB NOT NULL, reply_text TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    replaced_by BLOB NOT NULL
);
CREATE INDEX orders_by_state ON orders(state);

CREATE TABLE answers(
    accept_id BLOB PRIMARY KEY, order_id BLOB NOT NULL, wire BLOB NOT NULL, published INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX answers_by_order ON answers(order_id);
CREATE INDEX answers_unpublished ON answers(accept_id) WHERE published = 0;

CREATE TABLE pending(
    accept_id BLOB PRIMARY KEY, order_id BLOB NOT NULL, wire BLOB NOT NULL, received REAL NOT NULL
);
CREATE INDEX pending_by_order ON pending(order_id);

CREATE TABLE trades(
    accept_id BLOB PRIMARY KEY, order_id BLOB NOT NULL, role TEXT NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL,
    order_wire BLOB NOT NULL, accept_wire BLOB NOT NULL, answer_wire BLOB NOT NULL, message TEXT NOT NULL,
    reply TEXT NOT NULL, created INTEGER NOT NULL, deadline INTEGER NOT NULL
);
CREATE INDEX trades_by_order ON trades(order_id);

CREATE TABLE peers(node_id BLOB PRIMARY KEY, ip TEXT NOT NULL, port INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE held(
    dht_key BLOB NOT NULL, record_id BLOB NOT NULL, prefix TEXT, anchored INTEGER NOT NULL, wire BLOB NOT NULL,
    UNIQUE(dht_key, record_id)
);
""",
    2: """
ALTER TABLE orders ADD COLUMN group_id BLOB NOT NULL DEFAULT x'';
ALTER TABLE orders ADD COLUMN parent BLOB NOT NULL DEFAULT x'';
ALTER TABLE orders ADD COLUMN cancel_after INTEGER NOT NULL DEFAULT 0;
ALTER TABLE orders ADD COLUMN cancel_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX orders_by_switch ON orders(cancel_at) WHERE cancel_at > 0;
CREATE INDEX orders_by_group ON orders(group_id) WHERE group_id != x'';
CREATE INDEX orders_by_parent ON orders(parent) WHERE parent != x'';
""",
    3: """
CREATE TABLE receipts(
    accept_id BLOB NOT NULL, role TEXT NOT NULL, outcome TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL,
    reason TEXT NOT NULL, wire BLOB NOT NULL, published INTEGER NOT NULL, PRIMARY KEY(accept_id, role)
) WITHOUT ROWID;
""",
    # Numbered as they come, and found by that number: an index over the keys, which are hashes, would make each row
    # that comes or goes change a page of its own.
    4: """
ALTER TABLE held RENAME TO held_3;
CREATE TABLE held(
    number INTEGER PRIMARY KEY, dht_key BLOB NOT NULL, record_id BLOB NOT NULL, prefix TEXT, anchored INTEGER NOT NULL,
    wire BLOB NOT NULL
);
INSERT INTO held SELECT rowid, dht_key, record_id, prefix, anchored, wire FROM held_3 ORDER BY rowid;
DROP TABLE held_3;
""",
    5: """
CREATE INDEX trades_by_age ON trades(created);
""",
}
