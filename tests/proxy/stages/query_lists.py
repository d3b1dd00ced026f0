"""What replicas ask, from the servers and their source; and what must not pass for it."""

# What the I/O threads send, as the servers write it. tests/integration/test_policy.py records the ones that can be run
# (9.7, 10.11, 11.8); the others are from the source of the server.
# MySQL 8.0 to 9: sql/rpl_replica.cc, plugin/semisync/semisync_replica_plugin.cc; SET NAMES: sql-common/client.cc
MYSQL_8_AND_9 = [
    "SELECT UNIX_TIMESTAMP()",
    "SELECT @@GLOBAL.SERVER_ID",
    "SET @master_heartbeat_period = 30000001024, @source_heartbeat_period = 30000001024",
    "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
    "SELECT @source_binlog_checksum",
    "SELECT @@GLOBAL.GTID_MODE",
    "SELECT @@GLOBAL.SERVER_UUID",
    "SET @slave_uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562', @replica_uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562'",
    "SELECT @@global.rpl_semi_sync_master_enabled",
    "SELECT @@global.rpl_semi_sync_source_enabled",
    "SET @rpl_semi_sync_slave= 1",
    "SET @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1",
    "SET @rpl_semi_sync_replica = 1",
    "SET NAMES utf8mb4",
]
# MySQL 8.0.23 to 9: sql/rpl_io_monitor.cc SQL_QUERIES, with the spaces that they have there
MYSQL_FAILOVER = [
    "SELECT 1",
    (
        "SELECT * FROM (   SELECT CASE     WHEN ((SELECT count(*) from information_schema.plugins WHERE      "
        "      PLUGIN_NAME LIKE 'group_replication') <> 1)     THEN (SELECT 2)     WHEN ((SELECT "
        "IF(((MEMBER_STATE='ONLINE') OR                       (MEMBER_STATE='RECOVERING')) AND           "
        "((SELECT COUNT(*) FROM             performance_schema.replication_group_members             WHERE "
        "MEMBER_STATE != 'ONLINE' AND MEMBER_STATE != 'RECOVERING')             >= ((SELECT COUNT(*) FROM    "
        "              performance_schema.replication_group_members)/2)=0),1,0)        FROM "
        "performance_schema.replication_group_members        WHERE member_id=@@global.server_uuid) = 1)     "
        "THEN (SELECT 1)     ELSE (SELECT 2)   END AS QUORUM ) Q "
    ),
    (
        "SELECT * FROM (   SELECT CASE     WHEN ((SELECT count(*) from information_schema.plugins WHERE      "
        "      PLUGIN_NAME LIKE 'group_replication') <> 1)     THEN (SELECT 2)     WHEN ((SELECT "
        "IF(MEMBER_STATE='ONLINE' AND           ((SELECT COUNT(*) FROM             "
        "performance_schema.replication_group_members             WHERE MEMBER_STATE != 'ONLINE' AND "
        "MEMBER_STATE != 'RECOVERING')             >= ((SELECT COUNT(*) FROM                  "
        "performance_schema.replication_group_members)/2)=0),1,0)        FROM "
        "performance_schema.replication_group_members        WHERE member_id=@@global.server_uuid) = 1)     "
        "THEN (SELECT 1)     ELSE (SELECT 2)   END AS QUORUM ) Q "
    ),
    (
        "SELECT @@global.group_replication_group_name, PRGM.MEMBER_HOST,        PRGM.MEMBER_PORT, "
        "PRGM.MEMBER_STATE, PRGM.MEMBER_ROLE FROM performance_schema.replication_group_members PRGM"
    ),
    (
        "SELECT @@global.group_replication_group_name, PRGM.MEMBER_HOST,        PRGM.MEMBER_PORT, "
        "PRGM.MEMBER_STATE,        (SELECT IF(GR_SINGLE_PRIMARY_MODE.VARIABLE_VALUE = 'OFF',                 "
        "  'PRIMARY',                   IF(PRGM.MEMBER_ID = GR_PRIMARY_MEMBER.VARIABLE_VALUE,                "
        "      'PRIMARY', 'SECONDARY'))         FROM (SELECT VARIABLE_VALUE FROM "
        "performance_schema.global_status               WHERE VARIABLE_NAME = "
        "'group_replication_primary_member')               GR_PRIMARY_MEMBER,             (SELECT "
        "VARIABLE_VALUE FROM                 performance_schema.global_variables               WHERE         "
        "        VARIABLE_NAME='group_replication_single_primary_mode')                 "
        "GR_SINGLE_PRIMARY_MODE        ) MEMBER_ROLE FROM performance_schema.replication_group_members PRGM"
    ),
]
# MySQL 5.6 and 5.7: sql/rpl_slave.cc, plugin/semisync/semisync_slave_plugin.cc
MYSQL_5 = [
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SHOW VARIABLES LIKE 'SERVER_UUID'",
    "SET @master_heartbeat_period= 1799999979520",
    "SET @master_binlog_checksum= @@global.binlog_checksum",
    "SELECT @master_binlog_checksum",
    "SET @slave_uuid= '3e11fa47-71ca-11e1-9e33-c80aa9429562'",
    "SELECT @@GLOBAL.SERVER_UUID",
    "SELECT @@GLOBAL.GTID_MODE",
    "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
    "SELECT @@global.rpl_semi_sync_master_enabled",
    "SET NAMES latin1",
]
# MariaDB 10.3 to 12: sql/slave.cc get_master_version_and_clock, sql/semisync_slave.cc; SET NAMES: sql-common/client.c
MARIADB = [
    "SELECT UNIX_TIMESTAMP()",
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SET @master_heartbeat_period= 30000001024",
    "SET @master_binlog_checksum= @@global.binlog_checksum",
    "SELECT @master_binlog_checksum",
    "SET skip_replication=1",
    "SET @mariadb_slave_capability=4",
    "SELECT @@GLOBAL.gtid_domain_id",
    "SET @slave_connect_state=''",
    "SET @slave_connect_state='0-1-3345,1-2-17'",
    "SET @slave_gtid_strict_mode=1",
    "SET @slave_gtid_ignore_duplicates=0",
    "SET @slave_until_gtid='0-1-3345'",
    "SET @slave_gtid_until_before_gtids=1",
    "SET NAMES utf8mb3",
    "SET @slave_connect_state=NULL",
    "SELECT binlog_gtid_pos('mysql-bin.000003',1234)",
    "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
    "SET @rpl_semi_sync_slave= 1",
]
# mysqlbinlog of both sets these alone (client/mysqlbinlog.cc).
MYSQLBINLOG = [
    "SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'",
    "SET @master_binlog_checksum='NONE'",
]
REPLICAS = [*MYSQL_8_AND_9, *MYSQL_FAILOVER, *MYSQL_5, *MARIADB, *MYSQLBINLOG]

TRICKS = [
    "",
    " ",
    "\x00",
    "SELECT",
    "SET",
    "SELECT 2",
    "SELECT VERSION()",
    "SELECT * FROM mysql.user",
    "SELECT UNIX_TIMESTAMP(); DROP TABLE t",
    "SELECT UNIX_TIMESTAMP();",
    "SELECT UNIX_TIMESTAMP() ;",
    "SELECT UNIX_TIMESTAMP(1)",
    "SELECT UNIX_TIMESTAMP(), user()",
    "SELECT UNIX_TIMESTAMP() FROM mysql.user",
    "SELECT UNIX_TIMESTAMP() INTO OUTFILE '/tmp/x'",
    "SELECT UNIX_TIMESTAMP() -- x",
    "SELECT UNIX_TIMESTAMP() # x",
    "SELECT UNIX_TIMESTAMP() /* x */",
    "SELECT UNIX_TIMESTAMP()/*!, (SELECT authentication_string FROM mysql.user LIMIT 1) */",
    "/* x */ SELECT UNIX_TIMESTAMP()",
    "/*!50000 DROP TABLE t */",
    "/*M!100000 DROP TABLE t */ SELECT UNIX_TIMESTAMP()",
    "SELECT/**/UNIX_TIMESTAMP()",
    "-- \nSELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()\x00",
    "\x00SELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()\x00; DROP TABLE t",
    "SELECT UNIX_TIMESTAMP()\nUNION SELECT 1",
    "SELECT UNIX_TIMESTAMP()\r\n; DROP TABLE t",
    "SELECT UNIX_TIMESTAMP()\x0b;x",
    "XSELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()X",
    "SELECT @@GLOBAL.SERVER_ID, @@GLOBAL.DATADIR",
    "SELECT @@GLOBAL.SERVER_IDX",
    "SELECT @@GLOBAL.DATADIR",
    "SELECT @@SESSION.SERVER_ID",
    "SELECT @@GLOBALxSERVER_ID",
    "SELECT @other",
    "SHOW VARIABLES",
    "SHOW VARIABLES LIKE '%'",
    "SHOW VARIABLES LIKE 'SERVER_I%'",
    "SHOW VARIABLES LIKE 'SERVER_ID' OR 1=1",
    "SHOW GRANTS",
    "SHOW GLOBAL VARIABLES LIKE 'SERVER_ID'",
    "SELECT @@global.group_replication_group_name, PRGM.MEMBER_HOST FROM mysql.user PRGM",
    "SELECT * FROM ( SELECT CASE WHEN 1 THEN (SELECT authentication_string FROM mysql.user LIMIT 1) END AS QUORUM ) Q",
    "SET skip_replication=0",
    "SET wait_timeout=1",
    "SET @slave_uuid = 'caf\u00e9'",
    "SET @slave_uuid = 'a\tb'",
    "SET @slave_uuid = 'a\"b'",
    "SET @x=(select 1)",
    "SET @slave_uuid=(select authentication_string from mysql.user limit 1)",
    "SET @slave_uuid = '', @x = 1",
    "SET @slave_uuid = '' , GLOBAL read_only = 0",
    "SET @slave_uuid = '', @@GLOBAL.read_only = 0",
    "SET GLOBAL read_only = 0",
    "SET @@GLOBAL.read_only = 0",
    "SET GLOBAL skip_replication=1",
    "SET PERSIST wait_timeout=1",
    "SET PASSWORD = 'x'",
    "SET sql_log_bin=0",
    "SET @slave_uuid = 'a' 'b'",
    "SET @slave_uuid = 'a'; DROP TABLE t",
    "SET @slave_uuid = 'a;b'",
    "SET @slave_uuid = 'a\\'; DROP TABLE t; -- '",
    "SET @slave_uuid = 'a\\'",
    "SET @slave_uuid = 'a''b'",
    'SET @slave_uuid = "a"',
    "SET @slave_uuid = 'a",
    "SET @slave_uuid = a'",
    "SET @slave_uuid = `a`",
    "SET @slave_uuid = 'a' OR SLEEP(9)",
    "SET @slave_uuid = CONCAT('a')",
    "SET @slave_uuid := 'a'",
    "SET @slave_uuid = 0x41",
    "SET @slave_uuid = -1",
    "SET @slave_uuid = 1.5",
    "SET @slave_uuid = 1e9",
    "SET @slave_uuid = _utf8'a'",
    "SET @slave_uuid = N'a'",
    "SET @slave_uuid = @@global.datadir",
    "SET @slave_uuid = @@global.binlog_checksum.x",
    "SET @`slave_uuid` = 1",
    "SET @slave_uuidx = 1",
    "SET @slave_uuid = 1,",
    "SET @slave_uuid = 1, , @slave_uuid = 1",
    "SET @slave_uuid = 1 @slave_uuid = 1",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET NAMES 'utf8mb4'",
    "SET NAMES utf8mb4, @x = 1",
    "SET NAMES",
    "SELECT BINLOG_GTID_POS('a',(SELECT 1))",
    "SELECT BINLOG_GTID_POS((SELECT 1),1)",
    "SELECT BINLOG_GTID_POS('a\\',1), ('b',1)",
    "KILL",
    "KILL QUERY 42",
    "KILL USER root",
    "KILL (SELECT 1)",
    "KILL 42, 43",
    "KILL HARD 42",
    "KILL ID 42",
    "DO SLEEP(100)",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
    "HANDLER t OPEN",
    "PREPARE s FROM 'SELECT 1'",
    "SELECT\xa0UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP\xef\xbc\x88)",
    "\ufeffSELECT UNIX_TIMESTAMP()",
    "ſELECT UNIX_TIMESTAMP()",  # noqa: RUF001
    "ſET @slave_uuid = '1'",  # noqa: RUF001
    "KILL ٤٢",
]
