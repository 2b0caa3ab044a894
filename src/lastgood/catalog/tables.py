"""The tables. Times are seconds since the epoch; states, verdicts and the like stand by their names."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata = sa.MetaData()

revision = sa.Table(
    "revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
_this_revision: Final = sa.select(revision.c.value).scalar_subquery()
root = sa.Table(
    "root",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("marker", sa.Text, nullable=False),
    sa.Column("device", sa.Integer, nullable=False),
    sa.Column("frozen", sa.Text),
    sa.Column("known_since", sa.Float),
)
run = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("relative", sa.Text, nullable=False),
    sa.Column("first_seen_at", sa.Float, nullable=False),
    sa.Column("policy", sa.Text),  # the last one that was carried out
    sa.Column("remote_policy", sa.Text),  # the same of its copies in the cloud
    sa.UniqueConstraint("root", "relative"),
)
checkpoint = sa.Table(
    "checkpoint",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey("run.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("relative_path", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("copy", sa.Boolean, nullable=False),
    sa.Column("before_us", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("waiting_for", sa.Text),
    sa.Column("first_seen_at", sa.Float, nullable=False),
    sa.Column("saved_at", sa.Float, nullable=False),
    sa.Column("settled_at", sa.Float),
    sa.Column("verified_at", sa.Float),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("content", sa.Text),
    sa.Column("branch", sa.Integer),
    sa.Column("landing_seq", sa.Integer),
    sa.Column("evidence", sa.Text),
    sa.Column("unfinished", sa.Text),
    sa.Column("verdict", sa.Text),
    sa.Column("step_in_state", sa.Integer),
    sa.Column("epoch", sa.Float),
    sa.Column("world_size", sa.Integer),
    sa.Column("exact_resume", sa.Boolean, nullable=False, default=False),
    sa.Column("components", sa.Text, nullable=False, default="{}"),
    sa.Column("warnings", sa.Text, nullable=False, default="[]"),
    sa.Column("metrics", sa.Text, nullable=False, server_default="{}"),
    sa.Column("best", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("trash", sa.Text),
    sa.Column("until", sa.Float),
    sa.Column("report", sa.Text),
    sa.Column("boot", sa.Text),
    # The revision that wrote the row last, so that a reader of 1,000 rows fetches only what is new to it.
    sa.Column("revision", sa.Integer, nullable=False, index=True, default=_this_revision, onupdate=_this_revision),
    sa.UniqueConstraint("run_id", "name", "generation"),
)
file = sa.Table(
    "file",
    metadata,
    sa.Column("checkpoint_id", sa.ForeignKey("checkpoint.id"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text),
)
hold = sa.Table(
    "hold",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("checkpoint_id", sa.ForeignKey("checkpoint.id"), nullable=False, index=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("until", sa.Float),  # a pin has no end
    sa.Column("created_at", sa.Float, nullable=False),
    sqlite_autoincrement=True,  # an id is a job's proof that the lease is its own
)
event = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("run", sa.Text),
    sa.Column("checkpoint_id", sa.Integer),
    sa.Column("name", sa.Text),
    sa.Column("message", sa.Text, nullable=False),
    sqlite_autoincrement=True,  # a cursor must never be given twice
)
request = sa.Table(
    "request",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("checkpoint_id", sa.Integer),
    sa.Column("arguments", sa.Text, nullable=False, server_default="{}"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sqlite_autoincrement=True,
)
upload = sa.Table(  # one row for each copy in the cloud that we know of, or want
    "upload",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("store", sa.Text, nullable=False),  # which store, as `Remote.identity` tells it
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("copy", sa.Text, nullable=False),  # what its COMMIT says, or will
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("checkpoint_id", sa.Integer, index=True),
    sa.Column("error", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("checked_at", sa.Float),
    sa.UniqueConstraint("store", "key"),
)
store = sa.Table(  # what we know of a place for copies
    "store",
    metadata,
    sa.Column("identity", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),  # who we are to others that send there
    sa.Column("known_since", sa.Float, nullable=False),
    sa.Column("able", sa.Text),  # what it was seen to do
    sa.Column("probed_at", sa.Float),
    sa.Column("listed_at", sa.Float),
    sa.Column("swept_at", sa.Float),
    sa.Column("drilled_at", sa.Float),  # when a copy last came back whole
    sa.Column("trouble", sa.Text),  # why nothing goes there at the moment
)
worker = sa.Table(
    "worker",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
    sa.Column("first_scan_done", sa.Boolean, nullable=False),
    sa.Column("watch", sa.Text, nullable=False),
    sa.Column("progress", sa.Text, nullable=False),
    sa.Column("cloud", sa.Text, nullable=False, server_default="{}"),
)
