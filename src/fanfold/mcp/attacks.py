"""What somebody would try who can say one thing to a database, as data: the attack, and the walls that may hold it.

Words in braces are the victim's: what it has put where no query may come, so that it can be seen whether one did. An
attack is *refused* by a wall, or *harmless*: it was answered, and nothing that it was after came of it. Any other error
counts against us: an attack that fails by accident shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Held: TypeAlias = Literal["role", "prepare", "transaction", "cap", "harmless", "nothing"]

ROLE: Final = frozenset[Held]({"role"})
PREPARE: Final = frozenset[Held]({"prepare"})
TRANSACTION: Final = frozenset[Held]({"transaction"})
WRITE: Final = frozenset[Held]({"role", "transaction"})
CAP: Final = frozenset[Held]({"cap"})
HARMLESS: Final = frozenset[Held]({"harmless"})
CUT: Final = frozenset[Held]({"cap", "harmless"})
"""Cut off with an answer, or without one."""
UNDONE: Final = frozenset[Held]({"role", "transaction", "harmless"})
ANY: Final = frozenset[Held]({"role", "prepare", "transaction"})


@dataclass(frozen=True, slots=True)
class Attack:
    """One statement, and what may hold it. `before` is said by the owner first, `after` when it is over."""

    name: str
    sql: str
    walls: frozenset[Held]
    before: str = ""
    after: str = ""


def _all(walls: frozenset[Held], **statements: str) -> list[Attack]:
    return [Attack(name.replace("_", " "), sql, walls) for name, sql in statements.items()]


_DEFINER: Final = (
    "create function {door}.{function}_open() returns bigint language sql security definer as"
    " $f$ insert into {schema}.{table} values ('x') returning 1::bigint $f$"
)

POSTGRES: Final[tuple[Attack, ...]] = (
    # One statement, and one that returns columns.
    *_all(
        PREPARE,
        stacked_drop="select 1; drop table {schema}.{table}",
        stacked_commit_and_insert="commit; insert into {schema}.{table} values ('x')",
        stacked_after_a_comment="select 1 /* ; */; -- '\ndelete from {schema}.{table}",
        stacked_new_transaction="select 1; commit; begin read write; delete from {schema}.{table}; commit",
        commit="commit",
        rollback_and_chain="rollback and chain",
        do_block="do $$ begin delete from {schema}.{table}; end $$",
        plain_insert="insert into {door}.memory (key) values ('x')",
        create_table="create table {door}.{function}_made (x int)",
        create_temporary_table="create temporary table {function}_made (x int)",
        create_function="create function pg_temp.f() returns int language sql as 'select 1'",
        alter_role="alter role {reader} superuser",
        grant="grant select on all tables in schema {schema} to {reader}",
        truncate="truncate {schema}.{table}",
        vacuum="vacuum {schema}.{table}",
        lock_table="lock table {door}.memory in access exclusive mode",
        copy_to_stdout="copy {schema}.{table} to stdout",
        copy_from_program="copy {schema}.{table} from program 'touch {file}'",
        copy_to_program="copy (select 1) to program 'touch {file}'",
        copy_to_file="copy (select 1) to '{file}'",
        set_transaction_read_write="set transaction read write",
        set_session_read_write="set session characteristics as transaction read write",
        set_role="set role {owner}",
        reset_role="reset role",
        set_session_authorization="set session authorization {owner}",
        set_statement_timeout="set statement_timeout = 0",
        listen="listen {channel}",
        notify="notify {channel}, 'x'",
        prepare="prepare left_behind as select 1",
        cursor_that_outlives="declare left_behind cursor with hold for select 1",
        load_library="load 'plpgsql'",
        security_label="comment on view {door}.memory is 'x'",
        nothing="",
    ),
    Attack("call of a procedure that writes", "call {schema}.{procedure}()", ANY),
    # Writing, by what returns columns.
    *_all(
        WRITE,
        insert_returning="insert into {schema}.{table} values ('x') returning secret",
        update_returning="update {schema}.{table} set secret = 'x' returning 1",
        delete_returning="delete from {schema}.{table} returning 1",
        writable_cte="with gone as (delete from {schema}.{table} returning 1) select count(*) from gone",
        insert_through_a_view="insert into {door}.threads (thread_id) values ('x') returning 1",
        delete_through_a_view="delete from {door}.runs returning run_id",
        writable_cte_through_a_view="with gone as (delete from {door}.threads returning 1) select * from gone",
        explain_analyze_insert="explain analyze insert into {schema}.{table} values ('x')",
        explain_analyze_through_a_view="explain (analyze) delete from {door}.runs",
        select_for_update="select * from {schema}.{table} for update",
        select_for_share_through_a_view="select * from {door}.runs for share",
        nextval="select nextval('{schema}.{sequence}')",
        setval="select setval('{schema}.{sequence}', 99)",
        security_definer="select {schema}.{function}()",
        query_to_xml_delete="select query_to_xml('delete from {schema}.{table} returning 1', true, true, '')",
    ),
    # Not all versions refuse these in a transaction that reads. It is never committed, so nothing comes of them there.
    *_all(
        UNDONE,
        explain_analyze_create_table="explain analyze create table {door}.{function}_made as select 1 as x",
        explain_analyze_temporary_table="explain analyze create temporary table {function}_made as select 1 as x",
        large_object_in="select lo_from_bytea(0, 'x')",
        large_object_made="select lo_create(0)",
    ),
    Attack(
        "security definer within reach",
        "select {door}.{function}_open()",
        ROLE,
        before=_DEFINER,
        after="drop function {door}.{function}_open()",
    ),
    Attack(
        "a table that everybody may write to",
        "insert into {door}.{function}_loose values ('x') returning 1",
        ROLE,
        before="create table {door}.{function}_loose (x text); grant insert on {door}.{function}_loose to public",
        after="drop table {door}.{function}_loose",
    ),
    *_all(
        TRANSACTION,
        set_config_read_write="select set_config('transaction_read_only', 'off', true)",
        set_config_isolation="select set_config('transaction_isolation', 'serializable', true)",
    ),
    # Other tables, files, other processes.
    *_all(
        ROLE,
        other_table="select * from {schema}.{table}",
        store_s_own_table="select * from {schema}.item",
        passwords="select * from pg_authid",
        statistics_of_values="select * from pg_statistic",
        large_objects="select * from pg_largeobject",
        query_to_xml="select query_to_xml('select * from {schema}.{table}', true, true, '')",
        table_to_xml="select table_to_xml('{schema}.{table}'::regclass, true, true, '')",
        become_the_owner="select set_config('role', '{owner_text}', false)",
        become_another_session="select set_config('session_authorization', '{owner_text}', false)",
        set_config_log="select set_config('log_statement', 'none', false)",
        set_config_library="select set_config('session_preload_libraries', 'x', false)",
        read_file="select pg_read_file('PG_VERSION')",
        read_binary_file="select pg_read_binary_file('PG_VERSION')",
        list_folder="select pg_ls_dir('.')",
        stat_file="select pg_stat_file('PG_VERSION')",
        lo_import="select lo_import('{file}')",
        lo_export="select lo_export(1, '{file}')",
        data_directory="show data_directory",
        end_the_owner="select pg_terminate_backend({pid})",
        cancel_the_owner="select pg_cancel_backend({pid})",
        reload_settings="select pg_reload_conf()",
        replication_slot="select pg_create_physical_replication_slot('x')",
        switch_log="select pg_switch_wal()",
        restore_point="select pg_create_restore_point('x')",
        foreign_passwords="select umoptions from pg_user_mapping",
    ),
    # What is answered, and comes to nothing.
    *_all(
        HARMLESS,
        statistics_of_others="select * from pg_stats where tablename = '{table}'",
        statements_of_others="select query from pg_stat_activity where pid = {pid}",
        notify_by_function="select pg_notify('{channel}', 'x')",
        advisory_lock="select pg_advisory_lock(4711)",
        advisory_lock_of_migrations="select pg_advisory_lock(28820104170892132)",
        advisory_lock_shared="select pg_try_advisory_lock_shared(4711)",
        set_config_timeout="select set_config('statement_timeout', '0', false)",
        set_config_default_read_write="select set_config('default_transaction_read_only', 'off', false)",
        set_config_search_path="select set_config('search_path', '{schema}', false)",
        set_config_of_one_s_own="select set_config('left.behind', 'x', false)",
        set_config_row_security="select set_config('row_security', 'off', false)",
        transaction_number="select pg_current_xact_id()",
        exported_snapshot="select pg_export_snapshot()",
        log_message="select pg_logical_emit_message(false, 'x', 'x')",
        source_of_functions="select count(prosrc) from pg_proc",
    ),
    # Too much.
    *_all(
        CAP,
        sleep="select pg_sleep(60)",
        sleep_without_timeout="select set_config('statement_timeout', '0', false), pg_sleep(60)",
        lock_and_sleep="select pg_advisory_lock(4711), pg_sleep(60)",
        endless_recursion="with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n",
        cross_join="select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b",
        endless_sort="select x from generate_series(1, 1000000000) x order by x desc",
        one_large_row="select repeat('x', 20000000)",
        one_huge_row="select repeat('x', 1000000000)",
        hard_pattern="select count(*) from generate_series(1, 1000000) n where repeat('a', 2000) || n ~ '(a*)*(b|c)+d'",
        long_statement="select 1 /* {long} */",
        bytes_that_mean_megabytes="select {bombs} from (select '\\x{bomb}'::bytea as bomb) made",
    ),
    *_all(
        CUT,
        show_all="show all",
        many_rows="select * from pg_proc",
        large_rows="select repeat('x', 300000) from pg_proc",
    ),
)

SQLITE: Final[tuple[Attack, ...]] = (
    *_all(
        ANY,
        stacked_drop="select 1; drop table {table}",
        stacked_commit_and_insert="commit; insert into {table} values ('x')",
        stacked_after_a_comment="select 1 /* ; */; -- '\ndelete from {table}",
        begin="begin immediate",
        commit="commit",
        savepoint="savepoint x",
        plain_insert="insert into {table} values ('x')",
        insert_returning="insert into {table} values ('x') returning secret",
        update_returning="update {table} set secret = 'x' returning 1",
        delete_returning="delete from {table} returning 1",
        replace_an_item="replace into item (namespace, key) values ('x', 'x') returning 1",
        insert_through_a_view="insert into memory (key) values ('x')",
        create_table="create table made (x)",
        create_temporary_table="create temporary table made (x)",
        create_trigger="create temporary trigger made after insert on {table} begin select 1; end",
        create_view_over_it="create temporary view made as select * from {table}",
        create_virtual_table="create virtual table made using fts5 (x)",
        drop_view="drop view memory",
        drop_table="drop table {table}",
        alter_table="alter table {table} rename to other",
        reindex="reindex",
        analyze="analyze",
        vacuum="vacuum",
        vacuum_into_file="vacuum into '{file}'",
        attach_file="attach '{file}' as other",
        attach_the_same="attach '{path}' as other",
        detach="detach main",
        pragma_write="pragma user_version = 9",
        pragma_journal="pragma journal_mode = delete",
        pragma_writable_schema="pragma writable_schema = on",
        pragma_query_only="pragma query_only = off",
        pragma_checkpoint="pragma wal_checkpoint(truncate)",
        pragma_temp_folder="pragma temp_store_directory = '/'",
        pragma_read="pragma table_info({table})",
        explain_insert="explain insert into {table} values ('x')",
        nothing="",
    ),
    *_all(
        ROLE,
        other_table="select * from {table}",
        other_table_by_database="select * from main.{table}",
        store_s_own_table="select data from item",
        counted_other_table="select count(*) from {table}",
        subquery="select (select secret from {table})",
        join="select * from memory join {table}",
        union="select key from memory union all select secret from {table}",
        cte_named_like_a_view="with memory as (select * from main.{table}) select * from memory",
        cte_named_like_a_table="with item as (select * from main.{table}) select * from item",
        recursive_cte_named_like_a_view=(
            "with recursive runs(x) as (select secret from main.{table} union select x from runs) select x from runs"
        ),
        schema="select sql from sqlite_master",
        schema_of_views="select sql from sqlite_temp_master",
        schema_by_its_other_name="select sql from sqlite_schema",
        pragma_as_a_table="select * from pragma_table_info('{table}')",
        pragma_databases="select file from pragma_database_list",
        pages="select * from dbstat",
        words="select * from item_words",
        load_extension="select load_extension('{file}')",
        tokenizer="select fts3_tokenizer('simple')",
        random_memory="select length(randomblob(30000000))",
        compile_options="select * from pragma_compile_options",
    ),
    *_all(
        HARMLESS, explain_shows_names="explain query plan select * from memory", views_own="select count(*) from memory"
    ),
    *_all(
        CAP,
        endless_recursion="with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n",
        endless_sort="with recursive n(x) as (select 1 union all select x + 1 from n) select x from n order by x desc",
        much_memory=(
            "with recursive n(x) as (select printf('%.*c', 20000000, 'x') union all select x || '' from n)"
            " select count(*), group_concat(x) from n"
        ),
        cannot_be_interrupted=("select instr(printf('%.*c', 30000000, 'x'), printf('%.*c', 15000000, 'x') || 'y')"),
        one_large_row="select printf('%.*c', 20000000, 'x')",
        one_huge_row="select printf('%.*c', 2000000000, 'x')",
        deep_expression="select {deep}",
        long_statement="select 1 /* {long} */",
        bytes_that_mean_megabytes="select {bombs} from (select x'{bomb}' as bomb)",
    ),
    *_all(
        CUT,
        hard_pattern="select printf('%.*c', 1000000, 'a') like '{pattern}'",
        many_rows="with recursive n(x) as (select 1 union all select x + 1 from n) select x from n",
        large_rows="with recursive n(x) as (select 1 union all select 2 from n) select printf('%300000d', x) from n",
    ),
)
