-- What a store shows to those who may only read it, the same names and columns in both databases. Times are seconds
-- since 1970. `value` and `event` are bytes here; the door shows what they mean. Each query is the body of a view.

-- name: runs
-- One row a run.
select run_id, thread_id, graph, status, created, finished, error, settings from {schema}.run

-- name: threads
-- One row a thread: who runs it, if anybody does, and since when.
select thread_id, epoch, owner, claimed from {schema}.thread

-- name: steps
-- One row a checkpoint.
select thread_id, namespace, seq, checkpoint_id, parent_id, run_id, step, source, created, data as value
from {schema}.checkpoint

-- name: results
-- What tasks have come to: `kind` is "result" for a node's.
select run_id, thread_id, namespace, checkpoint_id, task_id, kind, name, step, attempt, parent, data as value
from {schema}.task_result

-- name: events
-- What happened in runs: a row has `number` events, of which `no` is the first.
select run_id, no, number, coalesce(packed, {bytes_of_data}) as event from {schema}.event

-- name: memory
-- Long-term items that have not expired. A namespace is its labels with dots between them.
select {labels} as namespace, key, data as value, version, created, updated, expires_at
from {schema}.item where expires_at is null or expires_at > {now}
