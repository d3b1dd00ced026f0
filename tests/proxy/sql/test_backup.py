"""The policy for backups: what dump programs send passes, and nothing that changes, locks or hides anything does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sql.backup import LONGEST_STATEMENT_BYTES, NotAdmitted, judge_statement
from proxy.sql.statements import Reading
from proxy.sql.vocabulary import FUNCTIONS, SESSION_VARIABLES
from proxy.stages.policy import CommandDenied, Policy
from wire.commands import Command, OtherCommand, Query

UTF8 = Reading(is_ascii_transparent=True)

# As mysqldump 9.7 and mariadb-dump 10.11 and 11.8 were recorded; for what the others send, client/mysqldump.cc.
DUMPS = [
    "/*!40100 SET @@SQL_MODE='' */",
    "/*!40100 SET @@SQL_MODE='ANSI' */",
    "/*!40103 SET TIME_ZONE='+00:00' */",
    "/*!80000 SET SESSION information_schema_stats_expiry=0 */",
    "/*!80018 SET SESSION show_create_table_skip_secondary_engine=1 */",
    "/*!80030 SET SESSION show_gipk_in_create_table_and_information_schema = OFF */",
    "/*M!100100 SET WAIT_TIMEOUT=DEFAULT */",
    "/*M!100100 SET @@MAX_STATEMENT_TIME=0.000000 */",
    "/*M!100100 SET @@MAX_STATEMENT_TIME=100.000000",  # 10.11 cuts it off
    "SET SESSION NET_READ_TIMEOUT= 86400, SESSION NET_WRITE_TIMEOUT= 86400",
    "SET @@SESSION.terminology_use_previous = NONE",
    "SET SQL_QUOTE_SHOW_CREATE=1",
    "SET SQL_QUOTE_SHOW_CREATE=1/*!40102 ,SQL_MODE=concat(@@sql_mode, _utf8 ',NO_KEY_OPTIONS,NO_TABLE_OPTIONS') */",
    "SET SESSION character_set_results = 'binary'",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION long_query_time=5",
    "set optimizer_switch='semijoin=off'",
    "set optimizer_switch=default",
    "SET NAMES utf8mb4",
    "SET NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'",
    "/*!40101 SET NAMES binary*/",
    "SHOW VARIABLES LIKE 'gtid\\_mode'",
    "SHOW MASTER STATUS",
    "SHOW BINARY LOG STATUS",
    "SHOW ALL SLAVES STATUS",
    "SHOW REPLICA STATUS",
    "SHOW CREATE DATABASE IF NOT EXISTS `shop`",
    "SHOW CREATE USER root@localhost",
    "SHOW GRANTS FOR 'root'@'localhost'",
    "SHOW CREATE PROCEDURE `p`",
    "SHOW PROCEDURE STATUS WHERE Db = 'shop'",
    "SHOW PACKAGE BODY STATUS WHERE Db = 'shop'",
    "SHOW TRIGGERS LIKE 'columns\\_priv'",
    "SHOW TRIGGERS LIKE 'caf\u00e9\\_orders'",
    "SHOW FULL TABLES",
    "show create table `we``ird \"tab\\le''s;`",
    "show fields from \"we`ird \"\"tab\\le's;\"",
    "show events",
    "USE `shop`",
    "use shop",
    "select @@collation_database",
    "SELECT @@GLOBAL.GTID_EXECUTED",
    "SELECT BINLOG_GTID_POS('binlog.000001', '4')",
    "SELECT /*!40001 SQL_NO_CACHE */ `id`, `body` FROM `orders` WHERE id > 1 and body <> \"x\\\\y\"",
    "SELECT /*!40001 SQL_NO_CACHE */ * FROM `shop`.`orders` WHERE 1 ORDER BY `id`",
    "SELECT /*!40001 SQL_NO_CACHE */ `a`, row_start, row_end FROM `sv` FOR SYSTEM_TIME ALL",
    "SELECT /*!40001 SQL_NO_CACHE */ `a` FROM `sv` FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'",
    ("SELECT COLUMN_NAME, JSON_EXTRACT(HISTOGRAM, '$.\"number-of-buckets-specified\"') FROM "
    "information_schema.COLUMN_STATISTICS WHERE SCHEMA_NAME = 'shop' AND TABLE_NAME = 'orders';"),
    ("SELECT DISTINCT TABLESPACE_NAME, FILE_NAME FROM INFORMATION_SCHEMA.FILES WHERE FILE_TYPE = 'DATAFILE' AND "
    "TABLESPACE_NAME IN (SELECT DISTINCT TABLESPACE_NAME FROM INFORMATION_SCHEMA.PARTITIONS WHERE a IN ('a'))"),
    "SELECT CONCAT('''',user,'''@''',host,''''), CONCAT(QUOTE(user),'@',QUOTE(host)) FROM mysql.user",
    ("SELECT CONCAT(QUOTE(u.user), '@', QUOTE(u.Host)) AS u FROM mysql.user u  /*!80001 LEFT JOIN mysql.role_edges e "
    "ON u.user=e.from_user WHERE e.from_user IS NULL */ /*M!100005 WHERE is_role='N' */"),
    ("WITH RECURSIVE create_role_order AS  (SELECT 1 as n, roles_mapping.* FROM mysql.roles_mapping JOIN mysql.user "
    "USING (user,host)   WHERE is_role='Y' UNION SELECT c.n+1, r.* FROM create_role_order c) SELECT * FROM c"),
    "SELECT next_not_cached_value FROM `sq`",
    "SELECT * FROM mysql.servers",
    "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    "SAVEPOINT sp",
    "ROLLBACK TO SAVEPOINT sp",
    "RELEASE SAVEPOINT sp",
    "ROLLBACK",
    "COMMIT",
    "BEGIN",
    "LOCK TABLES `a` READ /*!32311 LOCAL */,`we``ird` READ /*!32311 LOCAL */",
    "LOCK TABLES mysql.proc READ",
    "LOCK TABLES `shop`.`a` READ LOCAL, b READ",
    "LOCK INSTANCE FOR BACKUP",
    "UNLOCK INSTANCE",
    "UNLOCK TABLES",
    "FLUSH /*!40101 LOCAL */ TABLES",
    "FLUSH /*!40101 LOCAL */ TABLES WITH READ LOCK",
    "FLUSH TABLES `a`, shop.b WITH READ LOCK",
    "FLUSH /*!40101 LOCAL */ LOGS",
    "FLUSH BINARY LOGS",
    "DO 1",
]  # fmt: skip

CHANGES = [
    "DROP DATABASE x", "drop table x", "INSERT INTO t VALUES (1)", "UPDATE t SET a=1", "DELETE FROM t",
    "REPLACE t VALUES (1)", "TRUNCATE t", "CREATE TABLE t (a INT)", "CREATE USER x", "ALTER TABLE t ADD a INT",
    "RENAME TABLE a TO b", "GRANT ALL ON *.* TO x", "REVOKE ALL ON *.* FROM x", "SET GLOBAL read_only=0",
    "SET @@GLOBAL.read_only=0", "SET @@global . read_only=0", "SET PERSIST read_only=0", "SET @@PERSIST.read_only=0",
    "SET PERSIST_ONLY read_only=0", "SET time_zone='+00:00', GLOBAL read_only=0", "SET @x=1, @@GLOBAL.read_only=0",
    "SET PASSWORD='x'", "SET PASSWORD FOR root@localhost='x'", "SET ROLE ALL", "SET DEFAULT ROLE x TO y",
    "SET RESOURCE GROUP x", "SET STATEMENT max_statement_time=1 FOR DROP TABLE t", "SET sql_log_off=1",
    "SET gtid_next='x:1'", "SET sql_log_bin=0", "SET pseudo_thread_id=1", "SET mycache.key_buffer_size=1",
    "SET `time_zone`='x'", "SET", "SET @x", "SET time_zone", "SET time_zone=", "SET time_zone=1,",
    "SET time_zone=1), GLOBAL read_only=0", "SET time_zone=1), GLOBAL read_only=(0",
    "SET time_zone=(1, GLOBAL read_only=0", "SET @x=(SELECT 1)", "SET time_zone=SLEEP(9)",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; DROP TABLE t", "SET GLOBAL TRANSACTION READ ONLY", "SET NAMES gbk",
    "SET NAMES 'sjis'", "SET CHARACTER SET big5", "SET CHARSET cp932", "SET character_set_client=gb18030",
    "SET NAMES DEFAULT", "SET character_set_client=@x", "SET character_set_client=concat('g','bk')",
    "SET NAMES utf8mb4, character_set_client=gbk", "SET sql_mode='NO_BACKSLASH_ESCAPES'", "SET sql_mode='ORACLE'",
    "SET sql_mode='ANSI,MSSQL'", "SET SESSION sql_mode='nonsense'", "SELECT 1 INTO OUTFILE '/tmp/x'",
    "SELECT 1 INTO DUMPFILE '/tmp/x'", "SELECT 1 INTO @x", "SELECT * FROM t FOR UPDATE", "SELECT * FROM t FOR SHARE",
    "SELECT * FROM t LOCK IN SHARE MODE", "SELECT NEXT VALUE FOR s", "SELECT NEXTVAL(s)", "SELECT s.nextval",
    "SELECT PREVIOUS VALUE FOR s", "SELECT * FROM t PROCEDURE ANALYSE()", "SELECT * FROM t FOR",
    "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */", "SELECT 1 /*M!100100 FOR UPDATE */",
    "SELECT 1 INTO/**/OUTFILE '/tmp/x'", "SELECT * FROM (SELECT 1 INTO OUTFILE '/tmp/x') a", "(SELECT 1)", "TABLE t",
    "VALUES ROW(1)", "WITH c AS (SELECT 1) DELETE FROM t", "WITH c AS (SELECT 1) UPDATE t SET a=1", "HANDLER t OPEN",
    "SELECT SLEEP(100)", "SELECT GET_LOCK('x', 1)", "SELECT BENCHMARK(1, 1)", "SELECT LOAD_FILE('/etc/passwd')",
    "SELECT MASTER_POS_WAIT('x', 1)", "SELECT shop.fu()", "SELECT fu()", "SELECT `fu`()", "SELECT `SLEEP`(1)",
    'SELECT "fu"(1)', "SELECT shop.concat(1)", "SELECT COUNT (1)", "SELECT COUNT/**/(1)", "SELECT @x(1)",
    "SELECT `shop`.`fu`(1)", "SELECT asynchronous_connection_failover_delete_source('', '', 1, '')",
    "SELECT group_replication_set_as_primary('x')", "SELECT sys_exec('x')", "SELECT LAST_INSERT_ID(7)", "DO SLEEP(1)",
    "DO RELEASE_LOCK('x')", "DO (SELECT 1 FOR UPDATE)", "SHOW TABLES WHERE SLEEP(1)",
    "SHOW TABLES WHERE (SELECT 1 FOR UPDATE)", "SHOW TABLES WHERE 1 = NEXT VALUE FOR s",
    "LOAD DATA INFILE 'x' INTO TABLE t", "LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "LOAD XML INFILE 'x' INTO TABLE t",
    "KILL 7", "KILL QUERY 7", "KILL USER root", "CALL p()", "PREPARE s FROM 'SELECT 1'", "EXECUTE s", "SHUTDOWN",
    "RESTART", "CHANGE REPLICATION SOURCE TO SOURCE_HOST='x'", "CHANGE MASTER TO MASTER_HOST='x'", "START REPLICA",
    "STOP SLAVE", "RESET MASTER", "RESET BINARY LOGS AND GTIDS", "PURGE BINARY LOGS TO 'x'", "BINLOG 'x'",
    "FLUSH PRIVILEGES", "FLUSH HOSTS", "FLUSH TABLES t FOR EXPORT", "FLUSH LOGS, PRIVILEGES",
    "FLUSH TABLES WITH READ LOCK AND DISABLE CHECKPOINT", "LOCK TABLES t WRITE", "LOCK TABLES a READ, b WRITE",
    "LOCK TABLES a READ, b LOW_PRIORITY WRITE", "LOCK TABLES", "UNLOCK TABLES t", "INSTALL PLUGIN x SONAME 'y'",
    "CLONE INSTANCE FROM x", "XA START 'x'", "EXPLAIN ANALYZE DELETE FROM t", "DESCRIBE t", "ANALYZE TABLE t",
    "OPTIMIZE TABLE t", "CHECK TABLE t", "HELP 'x'", "BEGIN NOT ATOMIC DROP TABLE t; END", "COMMIT AND CHAIN",
    "ROLLBACK AND RELEASE", "START TRANSACTION READ WRITE AND CHAIN", "START SLAVE", "USE a b", "USE", "USE a.b",
    "SAVEPOINT", "SAVEPOINT a b", "RELEASE sp", "ROLLBACK TO", "DO", "SELECT", "WITH", "", " ", ";", "/* x */",
    "/*!50000 */", "/*!50000 DROP DATABASE x */", "/*M!100100 DROP DATABASE x */",
    "/*!99999 SELECT 1 */ DROP DATABASE x", "/*!50000 SELECT 1 */ , 2", "SELECT 1; DROP DATABASE x", "SELECT 1;\u0000",
    "SELECT 'a\\' INTO OUTFILE \\'b'", "SELECT 1.5INTO OUTFILE '/tmp/x'", "SELECT a INTO\u00a0OUTFILE '/tmp/x'",
    "SELECT 1 -- x", "SELECT 1 # x",
]  # fmt: skip


@pytest.mark.parametrize("text", DUMPS)
def test_admits_what_dump_programs_send(text: str) -> None:
    judge_statement(text.encode(), UTF8)
    Policy("backup").begin(charset=45).judge(Query(text.encode()))


@pytest.mark.parametrize("text", CHANGES)
def test_refuses_what_changes_locks_waits_or_hides(text: str) -> None:
    with pytest.raises(NotAdmitted):
        judge_statement(text.encode(), UTF8)
    if text != "SET NAMES gbk":  # which a replica may say of itself
        with pytest.raises(CommandDenied):
            Policy("backup").begin(charset=45).judge(Query(text.encode()))


@given(st.sampled_from(CHANGES), st.data())
def test_no_disguise_of_spaces_case_and_comments_helps(text: str, data: st.DataObject) -> None:
    words = text.split(" ")
    between = st.sampled_from([" ", "\n", "\t", "/**/", " /* x */ ", "\v", "  ", " /*!50000 */ "])
    disguised = "".join(word + (data.draw(between) if word else " ") for word in words)
    disguised = "".join(data.draw(st.sampled_from([each.lower(), each.upper()])) for each in disguised)
    wrapping = data.draw(
        st.sampled_from(["{}", "/*!50000 {} */", "/*M!100100 {} */", "/* x */ {}", "{};", "/*! {} */"])
    )
    with pytest.raises(NotAdmitted):
        judge_statement(wrapping.format(disguised).encode(), UTF8)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_of_the_list_is_admitted_where_it_cannot_be_somebodys_own(function: str) -> None:
    judge_statement(f"SELECT {function.lower()}(1)".encode(), UTF8)
    for own in (f"shop.{function}(1)", f"`{function}`(1)"):
        with pytest.raises(NotAdmitted, match="function"):
            judge_statement(f"SELECT {own}".encode(), UTF8)


@pytest.mark.parametrize("variable", sorted(SESSION_VARIABLES - {"character_set_client", "sql_mode"}))
def test_a_session_variable_of_the_list_may_be_set_for_the_session_alone(variable: str) -> None:
    for scope in ("", "SESSION ", "LOCAL ", "@@", "@@session.", "@@LOCAL."):
        judge_statement(f"SET {scope}{variable} = 1".encode(), UTF8)
    for scope in ("GLOBAL ", "PERSIST ", "PERSIST_ONLY ", "@@global.", "@@persist.", "STATEMENT "):
        with pytest.raises(NotAdmitted):
            judge_statement(f"SET {scope}{variable} = 1".encode(), UTF8)


def test_what_is_known_of_the_session_follows_what_it_sets() -> None:
    unknown = Reading()
    assert judge_statement(b"/*!40100 SET @@SQL_MODE='' */", unknown) == Reading(has_backslash_escapes=True)
    assert judge_statement(b"SET NAMES utf8mb4", unknown) == Reading(is_ascii_transparent=True)
    both = Reading(is_ascii_transparent=True, has_backslash_escapes=True)
    for text, after in (
        (b"SELECT 1", both),
        (b"SET sql_mode='STRICT_ALL_TABLES'", both),
        (b"SET sql_mode=concat(@@sql_mode, ',NO_BACKSLASH_ESCAPES')", Reading(is_ascii_transparent=True)),
        (b"SET sql_mode=@x", Reading(is_ascii_transparent=True)),
        (b"SET sql_mode=DEFAULT", Reading(is_ascii_transparent=True)),
        (b"SET NAMES latin2", both),
        (b"SET NAMES utf8mb4 COLLATE latin1_bin", Reading(has_backslash_escapes=True)),
    ):
        assert judge_statement(text, both) == after, text
    for text in (
        b"SET sql_mode='', time_zone='nonsense'",  # fails, and sets neither
        b"SET NAMES utf8mb4, time_zone='nonsense'",
        b"SET NAMES koi8r",  # a source may not have it
        b"SET sql_mode='STRICT_ALL_TABLES'",
        b"/*!80000 SET sql_mode='' */",
        b"/*M!100100 SET sql_mode='' */",
    ):
        assert judge_statement(text, unknown) == unknown, text


def test_a_quote_is_escaped_only_after_sql_mode_was_set() -> None:
    judge = Policy("backup").begin(charset=45)
    like = Query(b"show table status like 'it\\'s'")
    with pytest.raises(CommandDenied, match="backslash before a quote"):
        judge.judge(like)
    judge.judge(Query(b"/*!40100 SET @@SQL_MODE='' */"))
    judge.judge(like)
    judge.judge(OtherCommand(Command.COM_RESET_CONNECTION))
    with pytest.raises(CommandDenied, match="backslash before a quote"):
        judge.judge(like)


@pytest.mark.parametrize("charset", [1, 13, 24, 28, 84, 87, 95, 96, 248, 250, 0, 35, 54, 76, 249, 255])
def test_a_charset_that_may_hide_a_backslash_makes_it_ambiguous_until_it_is_changed(charset: int) -> None:
    judge = Policy("backup").begin(charset=charset)
    like = Query("SHOW TRIGGERS LIKE 'caf\u00e9\\_orders'".encode())
    with pytest.raises(CommandDenied, match="may be one character"):
        judge.judge(like)
    judge.judge(Query(b"SET NAMES utf8mb4"))
    judge.judge(like)
    # A replica whose own charset is gbk says so when it connects again (mysql_reconnect): from there it is as before.
    judge.judge(Query(b"SET NAMES gbk"))
    with pytest.raises(CommandDenied, match="may be one character"):
        judge.judge(like)


def test_mysqls_default_collation_is_known_to_mysql_alone() -> None:
    """MariaDB 10.11 gives a session that names one it does not have its own character set, which may be gbk."""
    like = Query("SHOW TRIGGERS LIKE 'caf\u00e9\\_orders'".encode())
    Policy("backup").begin(charset=255, is_mysql_8=True).judge(like)
    with pytest.raises(CommandDenied, match="may be one character"):
        Policy("backup").begin(charset=255).judge(like)


def test_a_statement_has_a_longest() -> None:
    locks = b"LOCK TABLES " + b",".join(
        b"`schema`.`table_%05d` READ /*!32311 LOCAL */" % each for each in range(12_000)
    )
    judge_statement(locks, UTF8)
    with pytest.raises(NotAdmitted, match="more than 1048576 bytes"):
        judge_statement(b"SELECT '" + b"a" * LONGEST_STATEMENT_BYTES + b"'", UTF8)
    with pytest.raises(NotAdmitted, match="more than 100000 words"):
        judge_statement(b"SELECT " + b"a," * 100_000, UTF8)


@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_admitted_or_denied_and_nothing_else(text: bytes) -> None:
    try:
        judge_statement(text, Reading())
    except NotAdmitted:
        return
