#!/usr/bin/env python3
"""Loads rows into a table of PostgreSQL over several connections at once.

Shows psycopg2, a driver in C, made cooperative by weft.patch(), and batches handed to its fibers through a channel.

    python bulk_loader.py --dsn 'host=localhost dbname=test' rows.csv           # two columns: a number, a text
    python bulk_loader.py --dsn 'host=localhost dbname=test' --rows 500000      # makes rows up
"""

import argparse
import contextlib
import io
import itertools
import sys

import psycopg2
import weft


def load(dsn, batches):
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        for batch in batches:
            with connection, connection.cursor() as cursor:  # a transaction each
                cursor.copy_expert("COPY weft_rows FROM STDIN (FORMAT csv)", io.StringIO("".join(batch)))


def main():
    parser = argparse.ArgumentParser(description="Load rows into the table weft_rows over several connections.")
    parser.add_argument("file", nargs="?", type=argparse.FileType("r"), help="CSV (default: rows that are made up)")
    parser.add_argument("--dsn", default="", help="where the database is (default: as PGHOST and kin say)")
    parser.add_argument("--rows", type=int, default=100_000, metavar="N", help="to make up (default: 100000)")
    parser.add_argument("--connections", type=int, default=8, metavar="N", help="(default: 8)")
    options = parser.parse_args()
    weft.patch()
    with contextlib.closing(psycopg2.connect(options.dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS weft_rows (id bigint PRIMARY KEY, text text NOT NULL)")
    rows = options.file or (f"{number},row {number}\n" for number in range(options.rows))
    batches, count = weft.Channel(4), 0  # four that wait, at most: a file of any length needs little memory
    with weft.TaskGroup() as group:
        for _ in range(max(options.connections, 1)):
            group.spawn(load, options.dsn, batches)
        while batch := list(itertools.islice(rows, 5000)):
            batches.send(batch)
            count += len(batch)
        batches.close()
    print(f"{count} rows loaded")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except psycopg2.Error as error:
        sys.exit(f"bulk_loader: {error}")
    except ExceptionGroup as loaders:
        sys.exit(f"bulk_loader: {loaders.exceptions[0]}")
